"""Whose a row is: the rows of people, found by the identifiers that they have.

Owns: ``rows_of`` and ``keys_of``. The row of an identifier belongs to the profile that has the identifier, wherever that
was founded. Where several identifiers of a person have a row in one table, that of the stronger namespace holds, then that
of the smaller identifier (code points of the value).
Invariant: a row is nobody's whose identifier nobody has, but for the profile that it founds.
Not here: which identifiers a profile has (flows.identity), look-ups by id (state.warehouse.table).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opportune.identity import digest_of
from opportune.profile import ELSEWHERE, Profile
from state.warehouse.table import WarehouseTable


def rows_of(tables: Sequence[WarehouseTable], profiles: Sequence[Profile]) -> Sequence[Any]:
    """What ``Profile.row`` is for each profile; see the attribute expressions of opportune.audiences.conditions.

    Args:
        tables: in the order of a row's parts.
        profiles: with their ids; one that does not exist yet has the row of the identifier that founds it.
    """
    if not tables:
        return [None] * len(profiles)
    ids = [profile.id for profile in profiles]
    # Most people have the identifier that founded them and no other: one look-up for all of them.
    several = [
        at
        for at, profile in enumerate(profiles)
        if len(profile.identifiers) > 1 or profile.fate & ELSEWHERE or profile.rowless
    ]
    parts = []
    for table in tables:
        rows = table.lookup(ids)
        further = several + _renewed(table, profiles, rows) if None in rows else several
        if further:
            _look_further(table, profiles, further, rows)
        parts.append(rows)
    return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))


def keys_of(table: WarehouseTable, profile: Profile) -> list[str]:
    """The identifiers of a person that have a row in a table; the row of the first one holds."""
    if not profile.identifiers:
        return []
    texts = _candidates(table, profile)
    rows = table.lookup([digest_of(text) for text in texts])
    return [text for text, row in zip(texts, rows, strict=True) if row is not None]


def _renewed(table: WarehouseTable, profiles: Sequence[Profile], rows: list[Any]) -> list[int]:
    """Those without a row whose one identifier founded a profile before: their id is not its digest."""
    prefix = f"{table.namespace}:"
    return [
        at
        for at, (profile, row) in enumerate(zip(profiles, rows, strict=True))
        if row is None
        and len(profile.identifiers) == 1
        and profile.identifiers[0].startswith(prefix)
        and digest_of(profile.identifiers[0]) != profile.id
    ]


def _look_further(table: WarehouseTable, profiles: Sequence[Profile], several: list[int], rows: list[Any]) -> None:
    """Puts the rows of people in place who have more identifiers than the one that founded them, or not that one."""
    digests: list[bytes] = []
    wanted: list[tuple[int, int]] = []
    for at in several:
        profile = profiles[at]
        texts = _candidates(table, profile)
        founding = profile.identifiers[:1]
        if texts == founding and not profile.fate & ELSEWHERE and len(profile.identifiers) > 1 and rows[at] is not None:
            continue
        rows[at] = None
        wanted.append((at, len(texts)))
        digests += map(digest_of, texts)
    if not digests:
        return
    found = iter(table.lookup(digests))
    for at, count in wanted:
        theirs = [next(found) for _ in range(count)]
        rows[at] = next((row for row in theirs if row is not None), None)


def _candidates(table: WarehouseTable, profile: Profile) -> list[str]:
    """The identifiers of a table's namespace, the one whose row holds first."""
    prefix = f"{table.namespace}:"
    return sorted(text for text in profile.identifiers if text.startswith(prefix) and text not in profile.rowless)
