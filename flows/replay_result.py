"""What goes into a replay beside its events, and what comes out beside its changes.

Owns: ``Refresh`` and ``ReplayResult``. Not here: the replay (flows.replay).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from opportune.membership import MembershipChange
from state.warehouse import WarehouseTable


class ReplayResult(msgspec.Struct):
    """What a replay found.

    Args:
        changes: in order of instant, profile and audience, unless they were handed out as they came.
        events: lines read.
        applied: events that reached somebody's features.
        duplicates: events that were dropped.
        refused: refused lines, by reason.
        clamped: events that claimed to be later than their ``receivedAt``.
        after_until: events later than ``until``, ignored.
        profiles: people who exist at the end.
        evaluated: how often each audience was evaluated, where that was counted.
        unread_pages: page and screen calls that no condition reads.
        start_ms: the first instant.
        end_ms: the last instant.
    """

    changes: list[MembershipChange]
    events: int = 0
    applied: int = 0
    duplicates: int = 0
    refused: dict[str, int] = {}
    clamped: int = 0
    after_until: int = 0
    profiles: int = 0
    evaluated: dict[str, int] = {}
    unread_pages: int = 0
    start_ms: int | None = None
    end_ms: int | None = None


class Refresh(msgspec.Struct, frozen=True):
    """Warehouse tables, by name, that come into force at an instant, milliseconds since the epoch."""

    at_ms: int
    tables: Mapping[str, WarehouseTable]
