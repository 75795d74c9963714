"""Where the board learns what it shows: the memberships topic, the worker's status, the traffic's account.

Owns: reading all three. Invariant: a look takes as long as it is told to, give or take a read of two small files.
Not here: what the numbers mean (flows.demo.board), the contract of a subscriber (flows.subscriber).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from flows.demo.board import Board, Status
from flows.demo.traffic import read_account
from flows.kafka_config import consumer_config
from flows.metrics import read_status
from flows.subscriber import Subscriber
from opportune.clock import Clock
from opportune.errors import TransientError
from opportune.settings import Settings

CHANGES_MAX = 2_000


class Watch:
    """Keeps a board up to date.

    Args:
        settings: where the broker is and what the topics are called.
        board: what is told.
        state: the worker's state directory, where its status is.
        account: path of the traffic's account.
        clock: milliseconds, of the same clock as the board's.
    """

    def __init__(self, settings: Settings, board: Board, state: Path, account: Path, clock: Clock) -> None:
        self._settings = settings
        self._board = board
        self._state = state
        self._account = account
        self._clock = clock
        self._subscriber: Subscriber | None = None

    @property
    def up(self) -> bool:
        """Whether the flow has said anything."""
        return self._board.status is not None

    def look(self, seconds: float) -> None:
        """Tell the board what is new.

        Args:
            seconds: how long to wait for changes.

        Raises:
            StateError: the memberships topic holds something else, or has lost records.
        """
        self._board.now_ms = self._clock()
        self.read_files()
        # The flow has made or found its topics before it says anything.
        if self.up and self._subscriber is None:
            topic = self._settings.topics.memberships
            self._subscriber = Subscriber(consumer_config(self._settings.kafka), topic)
        self._take_changes(seconds)

    def read_files(self) -> None:
        """Tell the board what the processes have written; also of use after their end."""
        self._board.account = read_account(self._account)
        found = read_status(self._state)
        if found is not None:
            self._board.reported(msgspec.convert(found, Status, strict=False))

    def close(self) -> None:
        """Leave the broker."""
        if self._subscriber is not None:
            self._subscriber.close()

    def _take_changes(self, seconds: float) -> None:
        if self._subscriber is None:
            return
        # A broker that is away comes back, or the worker's lag tells of it.
        with contextlib.suppress(TransientError):
            for change in self._subscriber.poll(seconds, CHANGES_MAX):
                self._board.changed(change, self._clock())
