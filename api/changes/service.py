"""The stream as one part of the service: started, kept alive, ended.

Owns: the hub's and the source's life, and the heartbeats.
Not here: the process that serves (opportune.cli.serve).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from api.changes.hub import Hub, HubSettings
from api.changes.source import ChangesSource
from opportune.clock import Clock


class Changes:
    """The parts of the stream.

    Args:
        config: properties of librdkafka for the project's consumers.
        admin: and for asking what a topic is.
        topic: the memberships topic.
        clock: wall clock, milliseconds.
        settings: bounds.
    """

    def __init__(
        self,
        config: dict[str, Any],
        admin: dict[str, Any],
        topic: str,
        clock: Clock,
        settings: HubSettings | None = None,
    ) -> None:
        self.hub = Hub(settings or HubSettings(), clock)
        self.source = ChangesSource(config, admin, topic, self.hub, clock)
        self._beating: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts to read; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self.source.start()
        self._beating = asyncio.ensure_future(self._beat())

    async def close(self) -> None:
        """Ends it."""
        self.hub.drop_all("stopping")
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
        await self.source.close()

    def stop_readers(self) -> None:
        """Lets the readers go, so that the server, which waits for its connections, can end. From a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.hub.drop_all, "stopping")

    def gauges(self) -> dict[str, float]:
        """Values of the moment by name."""
        return {
            "opportune_changes_readers": self.hub.readers,
            "opportune_changes_readers_dropped": sum(self.hub.dropped.values()),
            "opportune_changes_repeats": self.source.repeats,
            "opportune_changes_unreadable": self.source.unreadable,
        }

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.hub.settings.heartbeat_s)
            self.hub.beat()
