"""Rows of the warehouse for identifiers that did not found a profile: whose they are, from when on, and until when."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from flows.control import Forget, encode_decision
from flows.identity.attached import FIRST, Attached
from flows.loop import Arrived, Loop
from opportune.audiences.explain import Explainer
from opportune.audiences.schema import All, AttributeCondition, Condition, Table
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings
from opportune.identity import digest_of, shard_of
from state.memory import MemoryStore
from state.person import person_state, where
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0, happened, message, predicate, project
from tests.oracle.engine import warehouse
from tests.oracle.instants import read_instant

VIP = AttributeCondition("addresses", "tier", predicate(eq="vip"))
AUDIENCES: dict[str, Condition] = {
    "vip": VIP,
    "vip_a": All((VIP, happened("A", within_ms=100))),
    "lent": AttributeCondition("devices", "lent", predicate(eq="yes")),
}
TABLES = {
    "addresses": Table("addresses", "addresses.csv", "key", "email", columns={"tier": "string"}, normalise="email"),
    "devices": Table("devices", "devices.csv", "key", "anonymous_id", columns={"lent": "string"}),
}
SHARDS = 4


class World:
    """A loop of some shards with a table of e-mails and one of devices."""

    def __init__(self, directory: Path, addresses: dict[str, str], devices: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.devices = devices or {}
        self.project = msgspec.structs.replace(
            project(AUDIENCES, tables=TABLES), identity=IdentitySettings((USER_ID, EMAIL, ANONYMOUS_ID))
        )
        self.stores = [MemoryStore() for _ in range(SHARDS)]
        self.loop = Loop(self.project, SHARDS, self.stores.__getitem__, self.load(addresses), began_ms=DAY_0)
        self.offset = 0

    def load(self, addresses: dict[str, str], devices: dict[str, str] | None = None) -> dict[str, WarehouseTable]:
        self.devices = self.devices if devices is None else devices
        for name, column, rows in (("addresses", "tier", addresses), ("devices", "lent", self.devices)):
            text = f"key,{column}\n" + "".join(f"{key},{value}\n" for key, value in rows.items())
            (self.directory / f"{name}.csv").write_text(text)
        return warehouse(self.project, self.directory)

    def feed(self, at: int, kind: str, user: str | None, **fields: object) -> None:
        raw = message(kind, at, user, **fields)
        self.loop.feed([Arrived("events", 0, self.offset, DAY_0 + at, raw)])
        self.offset += 1
        self.loop.advance(DAY_0 + at + 1)

    def identify(self, at: int, user: str, email: str) -> None:
        self.feed(at, "identify", user, traits={"email": email})

    def new(self) -> list[tuple[int, str, str, str, str]]:
        """What was told since this was asked last: at, the first identifier, audience, change, cause."""
        news, self.loop.changes = self.loop.changes, []
        return sorted(
            (
                (read_instant(one.at) or 0) - DAY_0,
                next(iter(one.identifiers.values()))[0],
                one.audience,
                one.change,
                one.cause,
            )
            for one in news
        )

    def saw(self, name: str) -> str:
        """What explain says of somebody's tier."""
        plan = self.loop.compiled.plan
        profile = where(lambda id_: self.stores[shard_of(id_, SHARDS)], digest_of(name))
        tables = self.loop.actors[0].refresh.tables
        person = person_state(plan, self.stores[shard_of(profile, SHARDS)], profile, tables)
        assert person is not None
        return Explainer(plan, person).explain("vip", person.now_ms).condition.saw


def test_a_row_for_an_address_makes_a_profile_that_becomes_part_of_who_has_it(tmp_path: Path) -> None:
    world = World(tmp_path, {"A@x.example": "vip"})
    assert world.new() == [(0, "a@x.example", "vip", "entered", "attribute")]
    world.identify(10, "ann", "a@X.example")
    told = world.new()
    assert [(one[1:4], one[4]) for one in told] == [
        (("a@x.example", "vip", "exited"), "merged"),
        (("ann", "vip", "entered"), "merged"),
    ]
    assert world.saw("user_id:ann") == "vip: the row of email:a@x.example"


def test_a_row_that_comes_later_belongs_to_who_has_the_identifier(tmp_path: Path) -> None:
    world = World(tmp_path, {"nobody@x.example": "vip"})
    world.identify(10, "ann", "a@x.example")
    world.new()
    world.loop.refresh(world.load({"a@x.example": "vip", "nobody@x.example": "vip"}))
    assert world.new() == [(11, "ann", "vip", "entered", "attribute")], "and no profile of the address alone"
    world.loop.refresh(world.load({"nobody@x.example": "vip"}))
    assert world.new() == [(11, "ann", "vip", "exited", "attribute")]


def test_from_the_moment_they_have_it_until_it_moves(tmp_path: Path) -> None:
    world = World(tmp_path, {}, {"tablet": "yes"})
    assert world.new() == [(0, "tablet", "lent", "entered", "attribute")]
    world.feed(10, "track", "ann", event="A", anonymousId="tablet")
    assert [one[1:] for one in world.new()] == [
        ("ann", "lent", "entered", "merged"),
        ("tablet", "lent", "exited", "merged"),
    ]
    world.feed(20, "track", "bob", event="A", anonymousId="tablet")
    moved = world.new()
    assert [one[1:] for one in moved] == [
        ("ann", "lent", "exited", "attribute"),
        ("bob", "lent", "entered", "attribute"),
    ]
    assert all(20 <= one[0] <= 21 for one in moved if one[1] == "bob")
    world.loop.refresh(world.load({}, {"tablet": "no"}))
    assert [one[1:] for one in world.new()] == [("bob", "lent", "exited", "attribute")]


def test_of_several_rows_that_of_the_smaller_identifier_holds(tmp_path: Path) -> None:
    world = World(tmp_path, {"z@x.example": "vip", "b@x.example": "plain"})
    world.identify(10, "ann", "z@x.example")
    world.new()
    world.identify(20, "ann", "b@x.example")
    assert [one[1:] for one in world.new()] == [("ann", "vip", "exited", "event")]
    assert world.saw("email:z@x.example") == (
        "plain: the row of email:b@x.example, which holds before email:z@x.example"
    )
    world.loop.refresh(world.load({"z@x.example": "vip", "b@x.example": "vip"}))
    assert [one[1:] for one in world.new()] == [("ann", "vip", "entered", "attribute")]
    world.loop.refresh(world.load({"z@x.example": "plain", "b@x.example": "vip"}))
    assert world.new() == [], "the row that does not hold may be what it likes"
    world.loop.refresh(world.load({"z@x.example": "plain"}))
    assert [one[1:] for one in world.new()] == [("ann", "vip", "exited", "attribute")]


@pytest.mark.parametrize("finish", [True, False])
def test_an_event_that_comes_first_meets_the_new_row_of_an_address(tmp_path: Path, finish: bool) -> None:
    world = World(tmp_path, {"a@x.example": "plain"})
    world.identify(10, "ann", "a@x.example")
    world.loop.advance(DAY_0 + 50)
    world.new()
    world.loop.refresh(world.load({"a@x.example": "vip"}), finish=finish)
    assert bool(world.new()) is finish
    world.loop.feed([Arrived("events", 0, world.offset, DAY_0 + 60, message("track", 60, "ann", event="A"))])
    first = [] if finish else [(50, "ann", "vip", "entered", "attribute")]
    assert world.new() == [*first, (60, "ann", "vip_a", "entered", "event")]


def test_a_state_of_an_earlier_build_is_walked_once(tmp_path: Path) -> None:
    world = World(tmp_path, {"a@x.example": "plain"})
    world.identify(10, "ann", "a@x.example")
    for store in world.stores:
        write = store.batch()
        for key, _ in store.scan("identifiers"):
            write.delete(key, store.family("identifiers"))
        write.delete(b"attached", store.family("meta"))
        store.write(write)
    world.loop.restart()
    world.new()
    world.loop.refresh(world.load({"a@x.example": "vip"}))
    assert [one[1:] for one in world.new()] == [("ann", "vip", "entered", "attribute")]


def test_who_comes_anew_after_being_forgotten_has_a_row_once_the_old_one_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path, {}, {"tablet": "yes"})
    world.feed(10, "track", None, event="A", anonymousId="tablet")
    world.new()
    forget = Forget(request="r", identifiers=[digest_of("anonymous_id:tablet").hex()], at="2023-11-14")
    world.loop.control.append(encode_decision(forget))
    world.loop.advance(DAY_0 + 20)
    assert [one[2:] for one in world.new()] == [("lent", "exited", "deleted")]
    world.loop.refresh(world.load({}, {"tablet": "yes", "other": "yes"}))
    assert [one[1] for one in world.new()] == ["other"], "a row brings nobody back who was forgotten"
    world.feed(30, "track", None, event="A", anonymousId="tablet")
    assert world.new() == [], "the row is of before"
    world.loop.refresh(world.load({}, {"other": "yes"}))
    world.loop.refresh(world.load({}, {"tablet": "yes", "other": "yes"}))
    assert [one[1:] for one in world.new()] == [("tablet", "lent", "entered", "attribute")]
    world.loop.refresh(world.load({}, {"tablet": "no"}))
    assert ("tablet", "lent", "exited", "attribute") in [one[1:] for one in world.new()]


def test_mail_that_comes_first_meets_the_new_row(tmp_path: Path) -> None:
    """Who is still to be switched is, at the decision's instant, before they become part of somebody."""
    world = World(tmp_path, {}, {"tablet": "yes"})
    world.loop.advance(DAY_0 + 50)
    world.new()
    world.loop.refresh(world.load({}, {"tablet": "no"}), finish=False)
    raw = message("track", 60, "ann", event="A", anonymousId="tablet")
    world.loop.feed([Arrived("events", 0, world.offset, DAY_0 + 60, raw)])
    assert world.new() == [(50, "tablet", "lent", "exited", "attribute")]


def test_definitions_without_attributes_keep_no_index_that_grows_old(tmp_path: Path) -> None:
    world = World(tmp_path, {"a@x.example": "plain"})
    world.identify(10, "ann", "a@x.example")
    assert any(list(store.scan("identifiers", FIRST)) for store in world.stores)
    for store in world.stores:
        assert not Attached(store, ()).any
        assert list(store.scan("identifiers", FIRST)) == []
        assert store.get("meta", b"attached") is None
    holders = [Attached(store, ("email:",)).holders([digest_of("email:a@x.example")]) for store in world.stores]
    assert sorted(holders) == [[]] * (SHARDS - 1) + [[digest_of("user_id:ann")]]


def test_another_namespace_of_keys_is_found_in_the_heads(tmp_path: Path) -> None:
    """A table of before had other keys: what is kept is of those."""
    world = World(tmp_path, {"a@x.example": "plain"})
    world.feed(10, "track", "ann", event="A", anonymousId="tablet")
    world.identify(20, "bob", "a@x.example")
    for text, owner in (("anonymous_id:tablet", "ann"), ("email:a@x.example", "bob")):
        prefixes = (text.partition(":")[0] + ":",)
        holders = [Attached(store, prefixes).holders([digest_of(text)]) for store in world.stores]
        assert sorted(holders) == [[]] * (SHARDS - 1) + [[digest_of(f"user_id:{owner}")]]
