"""A person read beside the job is the one that the job would have, at any instant, however far it is behind its timers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.audiences.schema import All, AudienceCondition, Condition, Not, TraitCondition
from opportune.errors import ReadRefused
from opportune.identity import profile_id
from state import people
from state.members import Corrected, count, slices
from state.outbox import OutboxMessage
from state.people import People, Person
from state.reader import ShardReader
from state.rocks import RocksStore, shared_memory
from state.status import read_shard_times
from tests.oracle.builders import DAY_0, happened, identify, predicate, track
from tests.unit.flows.one_shard import Shard, changes

MEMORY = shared_memory(8 << 20, 16 << 20)
A10 = happened("A", within_ms=10)
AUDIENCES: dict[str, Condition] = {
    "recent": A10,
    "lapsed": All((happened("A"), Not((A10,)))),
    "often": happened("A", times=predicate(gte=2), within_ms=20),
    "french": TraitCondition(("locale",), predicate(eq="fr")),
    "nested": All((AudienceCondition("recent"), Not((happened("B", within_ms=15),)))),
}
NAMES = ("ann", "bob", "cid")


class World:
    """A shard whose timers wait, another with the same log whose timers do not, and a reader beside the first."""

    def __init__(self, directory: Path) -> None:
        self.behind = Shard(AUDIENCES, store=RocksStore(directory / "0000", MEMORY))
        self.ahead = Shard(AUDIENCES)
        self.reader = ShardReader(directory / "0000")
        self.people = People(self.behind.compiled, {})
        self.since: dict[tuple[str, str], int] = {}

    def feed(self, record: tuple[bytes, int]) -> None:
        self.behind.feed(record)
        self._note(self.ahead.feed(record))

    def _note(self, messages: list[OutboxMessage]) -> None:
        for change in changes(messages):
            key = change.profile_id, change.audience
            if change.change == "entered":
                self.since[key] = 1
            else:
                del self.since[key]

    def read(self, name: str, time: int) -> Person | None:
        self.reader.catch_up()
        return self.people.find(self.reader, profile_id("user_id", name), DAY_0 + time)

    def truth(self, name: str, time: int) -> set[str]:
        """What the shard that is not behind says at the same time."""
        self._note(self.ahead.advance(time))
        hexed = profile_id("user_id", name).hex()
        return {audience for person, audience in self.since if person == hexed}

    def listed(self, audience: str, time: int) -> dict[str, int]:
        number = self.behind.compiled.plan.numbers[audience]
        corrected = self.people.corrected(self.reader, DAY_0 + time).get(number, {})
        found = self._walked(number, corrected, b"")
        assert count(self.reader, number, corrected) == len(found)
        for place, (who, _, _) in enumerate(found):
            assert self._walked(number, corrected, who) == found[place + 1 :]
        return {names[0].removeprefix("user_id:"): since for _, since, names in found}

    def _walked(self, number: int, corrected: Corrected, after: bytes) -> list[tuple[bytes, int, Sequence[str]]]:
        parts = list(slices(self.reader, number, corrected, after, 2, identifiers=True))
        rows = [
            row for part in parts for row in zip(part.ids, part.since_ms.tolist(), part.identifiers or [], strict=True)
        ]
        assert [row[0] for row in rows] == sorted({row[0] for row in rows})
        return rows

    def close(self) -> None:
        self.reader.close()
        self.behind.store.close()


@settings(max_examples=60)
@given(
    log=st.lists(
        st.tuples(st.integers(0, 25), st.sampled_from(NAMES), st.sampled_from(["A", "A", "B", "fr", "de"])), max_size=12
    ),
    after=st.integers(1, 60),
)
def test_reading_is_what_the_job_will_say(log: list[tuple[int, str, str]], after: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        now = 0
        for step, name, what in log:
            now += step
            trait = what in ("fr", "de")
            world.feed((identify(now, name, traits={"locale": what}) if trait else track(what, now, name), now))
        time = now + after
        wanted = {name: world.truth(name, time) for name in NAMES}
        for name in NAMES:
            person = world.read(name, time)
            known = any(name == theirs for _, theirs, _ in log)
            assert (person is not None) == known
            if person is not None:
                assert {one.audience for one in person.memberships} == wanted[name]
                assert person.as_of_ms == DAY_0 + time - 1
                assert person.identifiers == [f"user_id:{name}"]
                for one in person.memberships:
                    assert world.listed(one.audience, time)[name] == one.since_ms
        for audience in AUDIENCES:
            assert set(world.listed(audience, time)) == {name for name in NAMES if audience in wanted[name]}
        world.close()


def test_a_membership_ends_and_another_begins_at_its_instant(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.feed((track("A", 0, "ann"), 0))
    before, after = world.read("ann", 10), world.read("ann", 11)
    assert before is not None
    assert after is not None
    assert [one.audience for one in before.memberships] == ["nested", "recent"]
    assert [(one.audience, one.since_ms) for one in after.memberships] == [("lapsed", DAY_0 + 10)]
    world.close()


def test_too_many_waiting_timers_are_refused_and_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    for name in NAMES:
        world.feed((track("A", 0, name), 0))
    world.reader.catch_up()
    monkeypatch.setattr(people, "OVERDUE_MAX", 2)
    assert set(world.listed("recent", 5)) == set(NAMES)
    with pytest.raises(ReadRefused, match="timers"):
        world.listed("recent", 20)
    world.close()


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadRefused, match="no state yet"):
        ShardReader(tmp_path / "0000")
    with pytest.raises(ReadRefused, match="has not run"):
        read_shard_times(tmp_path)
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(ReadRefused, match="cannot be read"):
        read_shard_times(tmp_path)
    (tmp_path / "status.json").write_text('{"shard_ms": {"3": 7}, "lag": {}}')
    assert read_shard_times(tmp_path) == {3: 7}
