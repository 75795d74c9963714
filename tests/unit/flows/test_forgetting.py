"""Forgetting people, step by step: who goes, what is refused, who comes anew, and when the list itself forgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.control import Decided, Erased, Forget, Forgotten, decode_decision, encode_decision
from flows.drained import is_quiet, under_way
from flows.erasures import Erasures
from flows.in_force import in_force
from flows.loop import Arrived, Loop
from opportune.audiences.schema import AttributeCondition, Condition, Not, Table
from opportune.identity import digest_of, profile_id
from opportune.settings import DAY_MS, Erasure, Settings
from state.memory import MemoryStore
from state.store import FAMILIES
from tests.oracle.builders import DAY_0, happened, predicate, project, track
from tests.oracle.engine import warehouse

AUDIENCES: dict[str, Condition] = {
    "bought": happened("Bought"),
    "twice": happened("Bought", times=predicate(gte=2), within_ms=10_000),
    "never": Not((happened("Bought"),)),
}
TABLE = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})
REMEMBER_MS = 100 * DAY_MS


class Shop:
    """Two or more shards with people."""

    def __init__(self, shards: int = 3, directory: Path | None = None, rows: str = "") -> None:
        audiences, tables = dict(AUDIENCES), {}
        if directory is not None:
            audiences["free"] = AttributeCondition("customers", "plan", predicate(eq="free"))
            tables = {"customers": TABLE}
            (directory / "customers.csv").write_text(f"user_id,plan\n{rows}")
        settings = Settings(erasure=Erasure(remember_ms=REMEMBER_MS))
        self.project = project(audiences, settings, tables)
        self.directory = directory
        self.loop = Loop(
            self.project,
            shards,
            [MemoryStore() for _ in range(shards)].__getitem__,
            warehouse(self.project, directory) if directory is not None else None,
            began_ms=DAY_0,
        )
        self.offset = 0

    def seen(self, at: int, user: str | None, device: str | None = None, event: str = "Bought") -> None:
        """Somebody does something."""
        raw = track(event, at, user, anonymousId=device, messageId=f"m{self.offset}")
        self.loop.time_ms = max(self.loop.time_ms, DAY_0 + at)
        self.loop.feed([Arrived("events", 0, self.offset, DAY_0 + at, raw)])
        self.offset += 1

    def forget(self, at: int, *identifiers: str, request: str = "r") -> list[Forgotten]:
        """Somebody asks; what the shards say of it."""
        before = len(self.loop.control)
        digests = [digest_of(text).hex() for text in identifiers]
        self.loop.time_ms = max(self.loop.time_ms, DAY_0 + at)
        self.loop.control.append(encode_decision(Forget(request=request, identifiers=digests, at="2023-11-14")))
        self.loop.advance(self.loop.time_ms)
        said = [decode_decision(value) for value in self.loop.control[before:]]
        return [one for one in said if isinstance(one, Forgotten)]

    def members(self) -> dict[str, set[str]]:
        """Who is in each audience, for a subscriber, by profile id."""
        found: dict[str, set[str]] = {}
        for change in self.loop.changes:
            inside = found.setdefault(change.audience, set())
            (inside.add if change.change == "entered" else inside.discard)(change.profile_id)
        return {name: inside for name, inside in found.items() if inside}

    def kept(self, *families: str) -> bytes:
        """All that the shards keep in some families."""
        return b"\0".join(
            part
            for actor in self.loop.actors
            for family in families or FAMILIES
            for pair in actor.store.scan(family)
            for part in pair
        )

    def refused(self) -> int:
        """How many events were refused since they were of somebody who was forgotten."""
        return sum(actor.refused.get("forgotten", 0) for actor in self.loop.actors)


def pid(namespace: str, value: str, incarnation: int = 0) -> str:
    return profile_id(namespace, value, incarnation).hex()


def test_all_of_a_person_goes_by_any_identifier() -> None:
    shop = Shop()
    shop.seen(1, None, "d1")
    shop.seen(2, "ann", "d1")
    shop.seen(3, "bob", "d2")
    (told,) = shop.forget(5, "anonymous_id:d1")
    assert told.profile == pid("user_id", "ann")
    assert set(told.identifiers) == {pid("user_id", "ann"), pid("anonymous_id", "d1")}
    assert told.until == DAY_0 + 5
    assert shop.members() == {"bought": {pid("user_id", "bob")}}
    exits = [one for one in shop.loop.changes if one.cause == "deleted"]
    assert {(one.audience, one.profile_id, one.change) for one in exits} == {
        (name, pid("user_id", "ann"), "exited") for name in ("bought", "twice")
    }
    assert exits[0].identifiers == {"user_id": ["ann"], "anonymous_id": ["d1"]}
    expected = {
        f"{pid(*one)}/{name}".encode() for one in (("user_id", "ann"), ("anonymous_id", "d1")) for name in AUDIENCES
    }
    assert set(shop.loop.tombstones) == expected
    kept = shop.kept("profiles", "identifiers", "timers", "members")
    assert b"ann" not in kept
    assert b"d1" not in kept
    assert b"bob" in kept


def test_older_events_are_refused_and_newer_ones_are_of_somebody_new() -> None:
    shop = Shop()
    shop.seen(1, "ann", "d1")
    shop.forget(5, "user_id:ann")
    shop.seen(4, "ann", "d1")
    shop.seen(5, None, "d1")
    assert shop.refused() == 2
    assert not shop.members()
    assert not shop.loop.letters
    shop.seen(6, "ann", "d1", "Other")
    shop.seen(7, None, "d1")
    assert shop.members() == {"bought": {pid("user_id", "ann", 1)}}
    shop.forget(9, "anonymous_id:d1")
    shop.seen(10, None, "d1")
    assert shop.members() == {"bought": {pid("anonymous_id", "d1", 2)}}


def test_it_is_done_once_however_often_it_is_asked_and_after_a_restart() -> None:
    shop = Shop()
    shop.seen(1, "ann", "d1")
    shop.forget(5, "user_id:ann", "anonymous_id:d1")
    shop.loop.commit()
    shop.loop.restart()
    assert [one.profile for one in shop.forget(6, "user_id:ann", request="again")] == [""]
    shop.seen(8, "ann")
    assert shop.members() == {"bought": {pid("user_id", "ann", 1)}}
    assert sum(one.cause == "deleted" for one in shop.loop.changes) == 1


def test_whom_nobody_knows_is_refused_as_well() -> None:
    shop = Shop()
    (told,) = shop.forget(5, "user_id:zoe")
    assert (told.profile, told.identifiers, told.asked) == ("", [], pid("user_id", "zoe"))
    shop.seen(3, "zoe")
    assert shop.refused() == 1
    shop.seen(6, "zoe")
    assert shop.members() == {"bought": {pid("user_id", "zoe")}}


def test_a_device_of_two_keeps_the_one_who_was_not_forgotten() -> None:
    shop = Shop()
    shop.seen(1, "ann", "shared")
    shop.seen(2, "bob", "shared")
    shop.forget(5, "user_id:ann")
    shop.seen(6, None, "shared")
    assert shop.members() == {"bought": {pid("user_id", "bob")}, "twice": {pid("user_id", "bob")}}


def test_a_state_made_anew_refuses_what_was_forgotten() -> None:
    shop = Shop()
    shop.seen(1, "ann", "d1")
    shop.forget(5, "anonymous_id:d1")
    shop.seen(6, "ann")
    anew = Shop()
    decided = [Decided(decode_decision(value), at, DAY_0 + 5) for at, value in enumerate(shop.loop.control)]  # type: ignore[arg-type]  # requests alone
    for actor in anew.loop.actors:
        actor.graph.forgetting.recall(decided)
    anew.seen(1, "ann", "d1")
    anew.seen(2, None, "d1")
    anew.loop.control += shop.loop.control
    anew.seen(6, "ann")
    assert anew.refused() == 2
    assert anew.members() == shop.members() == {"bought": {pid("user_id", "ann", 1)}}


def test_a_row_brings_nobody_back(tmp_path: Path) -> None:
    shop = Shop(2, tmp_path, "ann,free\nbob,free\n")
    shop.forget(5, "user_id:ann")
    assert shop.members() == {"free": {pid("user_id", "bob")}, "never": {pid("user_id", "bob")}}
    (tmp_path / "customers.csv").write_text("user_id,plan\nann,paid\nbob,free\ncid,free\n")
    shop.loop.refresh(warehouse(shop.project, tmp_path))
    assert shop.members()["free"] == {pid("user_id", "bob"), pid("user_id", "cid")}
    assert all(in_force(actor.store).done for actor in shop.loop.actors)
    # As long as there is a row, the list remembers.
    shop.loop.advance(DAY_0 + 5 + REMEMBER_MS + 2 * DAY_MS)
    assert bytes(digest_of("user_id:ann")) in shop.kept("identifiers")
    (tmp_path / "customers.csv").write_text("user_id,plan\nbob,free\n")
    shop.loop.refresh(warehouse(shop.project, tmp_path))
    shop.loop.advance(DAY_0 + 5 + REMEMBER_MS + 4 * DAY_MS)
    assert bytes(digest_of("user_id:ann")) not in shop.kept("identifiers", "profiles")


def test_the_list_forgets_after_its_life() -> None:
    shop = Shop()
    shop.seen(1, None, "d1")
    shop.seen(2, "ann", "d1")
    shop.forget(5, "user_id:ann")
    shop.loop.advance(DAY_0 + REMEMBER_MS)
    assert shop.kept("identifiers")
    shop.loop.advance(DAY_0 + REMEMBER_MS + 10)
    assert not shop.kept("identifiers", "profiles", "timers", "members")
    shop.seen(REMEMBER_MS + 20, "ann")
    assert shop.members() == {"bought": {pid("user_id", "ann")}}


def test_who_came_anew_outlives_the_list() -> None:
    shop = Shop()
    shop.seen(1, "ann", "d1")
    shop.forget(5, "user_id:ann")
    shop.seen(6, "ann", "d1")
    shop.loop.advance(DAY_0 + REMEMBER_MS + 10)
    shop.loop.commit()
    shop.loop.restart()
    shop.seen(REMEMBER_MS + 20, None, "d1")
    again = pid("user_id", "ann", 1)
    assert shop.members() == {"bought": {again}}
    shop.loop.advance(DAY_0 + REMEMBER_MS + 2_000)
    assert not shop.kept("identifiers")


def test_a_request_is_complete_when_all_mail_has_passed_and_all_is_delivered() -> None:
    shop = Shop()
    shop.seen(1, "ann", "d1")
    erasures = Erasures(shop.loop.actors)
    shop.forget(5, "user_id:ann", "user_id:zoe")
    assert erasures.open == 1
    done: list[str] = []
    for round_ in range(6):
        assert not under_way(shop.loop.actors)
        done += erasures.complete()
        assert not done or is_quiet(shop.loop.actors)
        shop.loop.commit()
        shop.loop.advance(DAY_0 + 10_000 + 2_000 * round_)
    assert done == ["r"]
    shop.loop.control.append(encode_decision(Erased(generation=1, request="r", at="2023-11-14")))
    shop.loop.advance(DAY_0 + 60_000)
    assert erasures.open == 0
    assert not Erasures(shop.loop.actors).complete()


def test_a_request_stays_open_over_a_restart() -> None:
    shop = Shop()
    shop.forget(5, "user_id:ann")
    shop.loop.restart()
    assert Erasures(shop.loop.actors).open == 1


@pytest.mark.parametrize("shards", [1, 4])
def test_a_chain_of_merges_goes_as_a_whole(shards: int) -> None:
    shop = Shop(shards)
    for device in ("a", "b", "c"):
        shop.seen(1, None, device)
    shop.seen(2, "ann", "a")
    shop.seen(3, "ann", "b")
    shop.seen(4, "ann", "c")
    shop.forget(5, "anonymous_id:b")
    assert not shop.members()
    for device in ("a", "b", "c"):
        assert digest_of(f"anonymous_id:{device}").hex() in {
            key.decode().partition("/")[0] for key in shop.loop.tombstones
        }
    shop.seen(6, None, "c")
    assert shop.members() == {"bought": {pid("anonymous_id", "c", 1)}}


@pytest.mark.parametrize("shards", [1, 3])
def test_who_came_anew_goes_without_the_old_row_until_it_is_gone(tmp_path: Path, shards: int) -> None:
    def rows(*lines: str) -> None:
        (tmp_path / "customers.csv").write_text("\n".join(("user_id,plan", *lines, "")))
        shop.loop.refresh(warehouse(shop.project, tmp_path))

    shop = Shop(shards, tmp_path, "ann,free\nbob,free\n")
    shop.seen(1, "ann", "d1")
    shop.forget(5, "anonymous_id:d1")
    shop.seen(6, "ann", "d1")
    again, bob = pid("user_id", "ann", 1), pid("user_id", "bob")
    assert shop.members()["free"] == {bob}
    rows("ann,free", "bob,paid")
    assert "free" not in shop.members()
    rows("ann,paid", "bob,free")
    rows("ann,free", "bob,free")
    assert shop.members()["free"] == {bob}
    shop.loop.commit()
    shop.loop.restart()
    rows("bob,free")
    rows("ann,free", "bob,free")
    assert shop.members()["free"] == {bob, again}


def test_a_row_that_went_before_somebody_came_anew_is_theirs_when_it_comes_again(tmp_path: Path) -> None:
    def rows(*lines: str) -> None:
        (tmp_path / "customers.csv").write_text("\n".join(("user_id,plan", *lines, "")))
        shop.loop.refresh(warehouse(shop.project, tmp_path))

    shop = Shop(2, tmp_path, "ann,free\nbob,free\n")
    shop.forget(5, "user_id:ann")
    rows("bob,free")
    rows("ann,free", "bob,free")
    shop.seen(6, "ann")
    assert shop.members()["free"] == {pid("user_id", "bob"), pid("user_id", "ann", 1)}
