"""What a shard keeps of one person, opened for looking at.

Owns: the way from an identifier to a profile, and from a profile's head and groups to a ``PersonState``.
Invariant: nothing is written.
Not here: what is concluded from it (opportune.audiences.explain), the layouts (state.keys, opportune.profile).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from opportune.audiences.explain import PersonState
from opportune.audiences.lineage import Lineage
from opportune.audiences.plan import TRAITS, Plan
from opportune.audiences.renewal import renewals, renumbered
from opportune.decode import decode_traits
from opportune.errors import StateError
from opportune.identity import ProfileId, profile_id, shard_of
from opportune.profile import ELSEWHERE, MOVED, Profile
from state.keys import META_PLAN, U16
from state.lineage import lineage_of
from state.rocks import frozen
from state.store import Reading, Store
from state.warehouse import WarehouseTable, keys_of, rows_of

HOPS_MAX = 10_000
decode_head = msgspec.msgpack.Decoder(Profile).decode
decode_group = msgspec.msgpack.Decoder(list[Any]).decode


def profile_of(namespace: str, value: str) -> ProfileId:
    """The profile that an identifier names.

    Args:
        namespace: for example ``user_id``.
        value: as events carry it; surrounding white space does not count.
    """
    return profile_id(namespace, value.strip())


class Looking:
    """The shards of a state directory, opened one by one as they are asked for, to look at.

    Args:
        directory: of the shards.
        shards: how many there are.
        fingerprint: of the plan that the state has to be kept for; None: it does not matter.
    """

    def __init__(self, directory: Path, shards: int, fingerprint: bytes | None = None) -> None:
        self._directory = directory
        self._shards = shards
        self._fingerprint = fingerprint
        self._open: dict[int, Store] = {}

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._open.values():
            store.close()

    def store_of(self, profile: bytes) -> Store:
        """The shard of an id. Raises ``StateError``: it has no state, or that of other definitions."""
        shard = shard_of(profile, self._shards)
        store = self._open.get(shard)
        if store is None:
            store = self._open[shard] = frozen(self._directory / f"{shard:04d}")
            if self._fingerprint is not None:
                check_plan(store, self._fingerprint)
        return store


def where(store_of: Callable[[bytes], Store], identifier: bytes) -> bytes:
    """The profile that an identifier belongs to, by any number of merges.

    Args:
        store_of: the store of the shard that an id belongs to.
        identifier: as ``profile_of`` returns it.

    Returns:
        The id of a profile; the identifier's own where it belongs to nobody else.
    """
    at, pointing = identifier, ELSEWHERE
    for _ in range(HOPS_MAX):
        value = store_of(at).get("profiles", at)
        if value is None:
            return at
        following = onward(at, value, pointing)
        if following is None:
            return at
        at, pointing = following, 0
    raise StateError(
        f"the profile {identifier.hex()} leads from one profile to another without end. Restore a checkpoint set."
    )


def onward(at: bytes, head: bytes, pointing: int = ELSEWHERE) -> bytes | None:
    """Where a profile's head leads on to.

    Args:
        at: the profile's id.
        head: as it is stored.
        pointing: ``ELSEWHERE`` where the id is an identifier's own, 0 where a head led to it.

    Returns:
        The id of another profile, or None where this is the one.
    """
    read = _head(at, head)
    return read.founder if read.fate & pointing else read.into if read.fate & MOVED else None


def _head(profile: bytes, value: bytes) -> Profile:
    try:
        return decode_head(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(profile, error) from error


def unreadable(profile: bytes, error: Exception) -> StateError:
    """What is stored of a profile is not of its layout."""
    return StateError(f"the profile {profile.hex()} cannot be read: {error}. Restore a checkpoint set.")


def check_plan(store: Store, fingerprint: bytes) -> None:
    """Refuses a state whose features are those of other definitions.

    Raises:
        StateError: they are, or the directory holds no state.
    """
    kept = store.get("meta", META_PLAN)
    if kept is None:
        raise StateError("there is no state in this directory: the job has not started here yet")
    if kept != fingerprint:
        raise StateError(
            "the state was kept for other definitions: put them back as they were, or start the job with these"
        )


def person_state(
    plan: Plan,
    store: Reading,
    profile: bytes,
    tables: Mapping[str, WarehouseTable],
    lineage: Lineage | None = None,
) -> PersonState | None:
    """Reads a person.

    Args:
        plan: that the state was kept for.
        store: of the shard that owns the profile.
        profile: the profile's id.
        tables: the warehouse tables in force, by name.
        lineage: for which definitions the state is kept; None: as it says itself.

    Returns:
        Their state; None where there is no such profile.

    Raises:
        StateError: what is stored cannot be read.
    """
    head_bytes = store.get("profiles", profile)
    if head_bytes is None:
        return None
    head = _head(profile, head_bytes)
    if not head.now:
        return None
    lineage = lineage_of(store) if lineage is None else lineage
    ways = {} if lineage is None else renewals(lineage.layouts, plan, lineage.gone())
    way = ways.get(head.stage)
    numbers = way.old_groups if way is not None else range(len(plan.groups))
    values = store.get_many("profiles", [profile + U16(number) for number in numbers])
    stored = {number: value for number, value in zip(numbers, values, strict=True) if value is not None}
    try:
        opened: dict[int, Any] = {
            number: decode_traits(value) if number == TRAITS else decode_group(value)
            for number, value in stored.items()
        }
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(profile, error) from error
    if way is not None:
        # The job has not come to this person since the definitions changed.
        opened = {number: value for number, value in enumerate(way.groups(opened.get)) if value is not None}
        renumbered(head, way)
    kept = opened.pop(TRAITS, {})
    head.id = profile
    rows = {name: row for name, table in tables.items() for row in rows_of([table], [head]) if row is not None}
    names = [audience.name for audience in plan.audiences]
    return PersonState(
        profile.hex(),
        list(head.identifiers),
        head.now,
        {names[number] for number in head.members if number < len(names)},
        opened,
        {name: (at, value) for name, (at, value, _) in kept.items()},
        {name: row for name, row in rows.items() if name in plan.columns},
        {name: tuple(keys_of(tables[name], head)) for name in rows},
        None if lineage is None else lineage.present,
    )
