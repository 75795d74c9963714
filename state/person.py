"""What a shard keeps of one person, opened for looking at.

Owns: the way from an identifier to a profile, and from a profile's head and groups to a ``PersonState``.
Invariant: nothing is written.
Not here: what is concluded from it (opportune.audiences.explain), the layouts (state.keys, opportune.profile).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from opportune.audiences.explain import PersonState
from opportune.audiences.plan import TRAITS, Plan
from opportune.decode import decode_traits
from opportune.errors import StateError
from opportune.identity import ProfileId, profile_id
from opportune.profile import Profile
from state.keys import META_PLAN, U16
from state.store import Store
from state.warehouse import WarehouseTable

decode_head = msgspec.msgpack.Decoder(Profile).decode
decode_group = msgspec.msgpack.Decoder(list[Any]).decode


def profile_of(namespace: str, value: str) -> ProfileId:
    """The profile that an identifier names.

    Args:
        namespace: for example ``user_id``.
        value: as events carry it; surrounding white space does not count.
    """
    return profile_id(namespace, value.strip())


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


def person_state(plan: Plan, store: Store, profile: bytes, tables: Mapping[str, WarehouseTable]) -> PersonState | None:
    """Reads a person.

    Args:
        plan: that the state was kept for.
        store: of the shard that owns the profile.
        profile: the profile's id.
        tables: the warehouse tables in force, by name.

    Returns:
        Their state; None where there is no such profile.

    Raises:
        StateError: what is stored cannot be read.
    """
    head_bytes = store.get("profiles", profile)
    if head_bytes is None:
        return None
    numbers = [group.number for group in plan.groups]
    values = store.get_many("profiles", [profile + U16(number) for number in numbers])
    stored = {number: value for number, value in zip(numbers, values, strict=True) if value is not None}
    try:
        head = decode_head(head_bytes)
        traits = decode_traits(stored.pop(TRAITS)) if TRAITS in stored else {}
        groups: dict[int, Sequence[Any]] = {number: decode_group(value) for number, value in stored.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(f"the profile {profile.hex()} cannot be read: {error}. Restore a checkpoint set.") from error
    rows = {name: row for name, table in tables.items() for row in table.lookup([profile]) if row is not None}
    names = [audience.name for audience in plan.audiences]
    return PersonState(
        profile.hex(),
        list(head.identifiers),
        head.now,
        {names[number] for number in head.members},
        groups,
        traits,
        {name: row for name, row in rows.items() if name in plan.columns},
    )
