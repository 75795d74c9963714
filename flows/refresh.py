"""Putting warehouse tables in force: profiles for rows, and new memberships of people who sit still.

Owns: the pass over a shard's rows and profiles, in slices, each one write; and the ``warehouse`` value of the meta
family: which content is in force, JSON ``{"versions": {table: version}, "at": ms, "done": bool}``.
Invariant: a pass that was killed is done again with the same instant and ends the same: a profile of which the new row
has been seen changes nothing at the second time.
Not here: reading tables (state.warehouse), refreshing while the job runs (a later part; it reuses the pass).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from flows.actor import Actor
from opportune.audiences.plan import ATTRIBUTES
from opportune.profile import ELSEWHERE, NEVER, Change, advance, fire
from state.keys import PROFILE_BYTES
from state.outbox import OutboxMessage
from state.warehouse import WarehouseTable

META_WAREHOUSE = b"warehouse"
SLICE = 2_000


class InForce(msgspec.Struct):
    """Which tables are in force in a shard, since when, and whether everybody has been looked at."""

    versions: dict[str, str] = {}
    at: int = 0
    done: bool = True


def in_force(actor: Actor) -> InForce:
    """What the shard's state says."""
    value = actor.store.get("meta", META_WAREHOUSE)
    return InForce() if value is None else msgspec.json.decode(value, type=InForce)


def put_in_force(
    actor: Actor, tables: Mapping[str, WarehouseTable], shards: int, at_ms: int
) -> Iterator[list[OutboxMessage]]:
    """Evaluates everybody whom the tables concern.

    Args:
        actor: the shard.
        tables: all tables of the project, by name.
        shards: how many shards there are.
        at_ms: the instant at which they come into force, for those who are not further on already.

    Yields:
        What each slice sends.
    """
    versions = {name: table.version for name, table in sorted(tables.items())}
    before = in_force(actor)
    if before.versions == versions and before.done:
        return
    if before.versions == versions:
        at_ms = before.at
    now = InForce(versions, at_ms, done=False)
    _save(actor, now)
    actor.desk.forget()
    for name, table in tables.items():
        namespace = actor.compiled.project.tables[name].namespace
        rows = table.rows(actor.shard, shards)
        while part := list(islice(rows, SLICE)):
            names: dict[bytes, str] = {profile_id: f"{namespace}:{key}" for profile_id, key, _ in part}
            yield _slice(actor, names, at_ms)
    heads = (key for key, _ in actor.store.scan("profiles") if len(key) == PROFILE_BYTES)
    while ids := list(islice(heads, SLICE)):
        gone = _without_rows(tables, ids)
        if gone:
            yield _slice(actor, dict.fromkeys(gone, ""), at_ms)
    now.done = True
    _save(actor, now)


def _without_rows(tables: Mapping[str, WarehouseTable], ids: list[bytes]) -> list[bytes]:
    """Those who have no row in any table; the others were looked at with their rows."""
    rows = [table.lookup(ids) for table in tables.values()]
    return [profile_id for profile_id, *theirs in zip(ids, *rows, strict=True) if all(row is None for row in theirs)]


def _slice(actor: Actor, names: Mapping[bytes, str], at_ms: int) -> list[OutboxMessage]:
    """One slice: who is new is found, who exists is evaluated for attributes."""
    desk, out, write = actor.desk, list[Change](), actor.store.batch()
    desk.clear()
    desk.load(names)
    profiles = desk.profiles
    known = [profile for profile in profiles.values() if profile.now]
    desk.open_due(known, at_ms)
    desk.open((profile, desk.reads(ATTRIBUTES)) for profile in known)
    for profile_id, name in names.items():
        profile = profiles[profile_id]
        if profile.fate and not (profile.now and profile.fate == ELSEWHERE):
            continue
        if not profile.now:
            desk.touch(profile)
            profile.identifiers = [name]
            profile.rank = actor.graph.ranks.get(name.partition(":")[0], 0)
            profile.now = at_ms
            actor.counts["profiles"] += 1
            actor.compiled.program.found(profile, at_ms, out, "attribute")
            continue
        now = max(at_ms, profile.now)
        before = len(out)
        if profile.due < now:
            desk.touch(profile)
            advance(profile, now, out, actor.evaluate)
        due = actor.evaluate[ATTRIBUTES](profile, now, out, "attribute")
        if due < profile.dues.get(ATTRIBUTES, NEVER):
            desk.touch(profile)
            profile.dues[ATTRIBUTES] = due
            profile.due = min(profile.due, due)
        if profile.due <= now:
            desk.touch(profile)
            fire(profile, now, out, actor.evaluate, "attribute")
        if len(out) > before:
            desk.touch(profile)
            profile.now = now
    return actor.commit(out, write, [])


def _save(actor: Actor, value: InForce) -> None:
    write = actor.store.batch()
    write.put(META_WAREHOUSE, msgspec.json.encode(value), actor.store.family("meta"))
    actor.store.write(write)
