from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.timers import Timers
from opportune.profile import NEVER, Profile
from state.keys import decode_timer
from state.memory import MemoryStore

PEOPLE = [bytes([number]) * 16 for number in range(5)]


@dataclass
class Shard:
    """Timers with the profiles that they are of, as an actor drives them."""

    store: MemoryStore = field(default_factory=MemoryStore)
    profiles: dict[bytes, Profile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timers = Timers(self.store)
        for person in PEOPLE:
            self.profiles[person] = Profile(id=person)

    def stored(self) -> list[tuple[int, bytes]]:
        return [decode_timer(key) for key, _ in self.store.scan("timers")]

    def arm(self, person: bytes, due: int) -> None:
        write = self.store.batch()
        self.profiles[person].due = due
        self.timers.arm(self.profiles[person], write)
        self.store.write(write)

    def sweep(self, until: int, limit: int, dues: dict[bytes, int]) -> list[tuple[int, bytes]]:
        """Takes what is due, deletes it, and arms the same people for what comes next."""
        taken = self.timers.due(until, limit)
        write = self.store.batch()
        for key in taken:
            write.delete(key, self.timers.family)
        for key in taken:
            profile = self.profiles[decode_timer(key)[1]]
            profile.timer = 0
            if profile.due < until:
                profile.due = dues[profile.id]
            self.timers.arm(profile, write)
        self.store.write(write)
        return [decode_timer(key) for key in taken]


ARMED = st.tuples(st.just("arm"), st.sampled_from(PEOPLE), st.sampled_from([*range(1, 30), NEVER]))
SWEPT = st.tuples(st.just("sweep"), st.integers(0, 4), st.integers(1, 6))


@given(st.lists(st.one_of(ARMED, SWEPT), max_size=40), st.booleans())
def test_against_a_model(steps: list[tuple[str, object, int]], restarts: bool) -> None:
    shard, now = Shard(), 0
    for kind, what, number in steps:
        if kind == "arm":
            assert isinstance(what, bytes)
            # A due is after what was fired, as an evaluation at now gives it; late events of a lost input may lie before.
            shard.arm(what, number)
        else:
            assert isinstance(what, int)
            now += what
            before = shard.stored()
            limit = number
            taken = shard.sweep(now, limit, dict.fromkeys(PEOPLE, now + 3))
            due = [key for key in before if key[0] < now]
            assert taken == due[:limit]
            assert (shard.timers.next_due < now) == (len(due) > limit)
        stored = shard.stored()
        assert len({person for _, person in stored}) == len(stored), "at most one a profile"
        for at, person in stored:
            assert shard.profiles[person].timer == at
        for profile in shard.profiles.values():
            assert (profile.timer != 0) == (profile.id in {person for _, person in stored})
            assert profile.due == NEVER or 0 < profile.timer <= profile.due, "never later than the due"
        assert all(at >= shard.timers.next_due or at >= now for at, _ in stored)
        if restarts:
            shard.timers = Timers(shard.store)


def test_nothing_is_written_while_an_earlier_timer_is_there() -> None:
    shard = Shard()
    shard.arm(PEOPLE[0], 10)
    shard.arm(PEOPLE[0], 20)
    shard.arm(PEOPLE[0], NEVER)
    assert shard.stored() == [(10, PEOPLE[0])]
    shard.arm(PEOPLE[0], 5)
    assert shard.stored() == [(5, PEOPLE[0])]


def test_timers_of_one_instant_are_taken_in_parts() -> None:
    shard = Shard()
    for person in PEOPLE:
        shard.arm(person, 7)
    assert shard.timers.due(7, 10) == []
    taken: list[tuple[int, bytes]] = []
    parts = []
    while shard.timers.next_due < 8:
        part = shard.sweep(8, 2, dict.fromkeys(PEOPLE, NEVER))
        parts.append(len(part))
        taken += part
    assert parts == [2, 2, 1]
    assert [person for _, person in taken] == PEOPLE


@pytest.mark.parametrize("due", [1, 4])
def test_a_timer_before_the_place_that_the_sweep_has_come_to_is_found(due: int) -> None:
    shard = Shard()
    shard.arm(PEOPLE[1], 9)
    assert shard.sweep(5, 10, {}) == []
    shard.arm(PEOPLE[0], due)
    assert shard.timers.next_due == due
    assert shard.sweep(5, 10, {PEOPLE[0]: NEVER}) == [(due, PEOPLE[0])]
    assert shard.sweep(10, 10, {PEOPLE[1]: NEVER}) == [(9, PEOPLE[1])]
