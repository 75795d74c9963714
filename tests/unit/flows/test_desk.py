from __future__ import annotations

from collections.abc import Sequence

import pytest

from flows.desk import Desk
from opportune.audiences.schema import All, Condition, TraitCondition
from opportune.compiled import Compiled
from opportune.decode import Event
from opportune.profile import NEVER, Profile
from opportune.router import Router
from state.memory import MemoryStore
from tests.oracle.builders import DAY_0, happened, identify, predicate, project, track

AUDIENCES: dict[str, Condition] = {
    "a": happened("A", within_ms=10),
    "ab": All((happened("A"), happened("B"))),
    "c": happened("C"),
    "plan": TraitCondition(("plan",), predicate(eq="free")),
}


class CountingStore(MemoryStore):
    """Counts multi-gets and the keys in them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked.append(len(keys))
        return super().get_many(name, keys)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


COMPILED = Compiled(project(AUDIENCES))


def events(*raws: bytes, arrivals: Sequence[int] | None = None) -> list[Event]:
    out: list[Event] = []
    at = [DAY_0 + one for one in arrivals or [0] * len(raws)]
    assert not Router(COMPILED, 1).route(raws, raws, at, [out.append])
    return out


def reads(*kinds: tuple[str, str | None]) -> set[int]:
    """The groups that handlers are sure to need."""
    return {group for handler in COMPILED.plan.handlers if handler.kind in kinds for group in handler.reads}


A, C, IDENTIFY = ("track", "A"), ("track", "C"), ("identify", None)


def test_one_multi_get_brings_the_heads_and_the_groups_that_actions_read(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    made = events(track("A", 0), track("A", 0, "bob"), track("C", 0, "bob"), identify(0, "cid"), track("Q", 0, "dan"))
    wanted = desk.load_for(made)
    people = {profile.id: set(profile.groups) for profile in desk.profiles.values()}
    assert [len(theirs) for theirs in wanted.values()] == [1, 2, 1, 1]
    expected = [reads(A), reads(A, C), reads(IDENTIFY), set()]
    assert all(expected[:3])
    assert list(people.values()) == expected
    assert store.asked == [4 + sum(map(len, expected))]


def test_a_persons_events_come_in_order_of_arrival_and_else_as_they_came(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    raws = [track("A", 0, messageId=str(number)) for number in range(5)]
    wanted = desk.load_for(events(*raws, arrivals=[5, 3, 3, 9, 5]))
    (theirs,) = wanted.values()
    assert [event.messageId for event in theirs] == ["1", "2", "0", "4", "3"]


def test_what_was_changed_comes_back(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    (event,) = events(track("A", 0))
    desk.load_for([event])
    profile = desk.profiles[event.person.id]
    assert (profile.now, profile.due, profile.timer, profile.version) == (0, NEVER, 0, 0)
    desk.touch(profile)
    desk.touch(profile)
    assert desk.touched == [profile]
    profile.now, profile.version, profile.members, profile.dues, profile.due = 5, 6, {1, 2}, {1: 7}, 7
    profile.identifiers = ["user_id:ann"]
    number = min(reads(A))
    profile.groups[number] = [[DAY_0], 1]
    profile.dirty.add(number)
    write = store.batch()
    desk.store_touched(write)
    store.write(write)
    assert len(list(store.scan("profiles"))) == 2
    desk.forget()
    desk.load_for([event])
    again = desk.profiles[event.person.id]
    assert again is not profile
    assert (again.now, again.version, again.members, again.dues, again.due) == (5, 6, {1, 2}, {1: 7}, 7)
    assert again.identifiers == ["user_id:ann"]
    assert again.dirty is None
    assert isinstance(again.groups[number], bytes)


def test_who_is_at_hand_is_not_read_again(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    (event,) = events(track("A", 0))
    desk.load_for([event])
    profile, asked = desk.profiles[event.person.id], list(store.asked)
    desk.clear()
    assert desk.load([event.person.id]) == [profile]
    desk.clear()
    desk.load_for([event])
    assert desk.profiles[event.person.id] is profile
    assert store.asked == asked


def test_who_is_at_hand_gets_groups_that_were_not_needed_before(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    first, second = events(track("A", 0), track("C", 1))
    desk.load_for([first])
    lacking = reads(C) - set(desk.profiles[first.person.id].groups)
    assert lacking
    desk.clear()
    desk.load_for([second])
    assert lacking <= set(desk.profiles[first.person.id].groups)


def test_those_beyond_the_bound_are_let_go(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.desk.AT_HAND", 3)
    desk = Desk(COMPILED, store, {})
    everybody = events(*(track("A", number, f"p{number}") for number in range(20)))
    for event in everybody:
        desk.load_for([event])
        desk.clear()
    assert len({**desk.at_hand, **desk.before}) <= 8
    assert everybody[-1].person.id in {**desk.at_hand, **desk.before}
    assert everybody[0].person.id not in {**desk.at_hand, **desk.before}


def test_many_bytes_are_let_go_earlier(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(COMPILED, store, {})
    first, other = events(track("A", 0, "p0"), track("A", 1, "p1"))
    person = first.person.id

    def wrote(event: Event) -> None:
        """A batch in which one person's group is changed."""
        desk.load_for([event])
        profile = desk.profiles[event.person.id]
        desk.touch(profile)
        (group,) = reads(A)
        profile.groups[group] = [[1] * 100]
        profile.dirty.add(group)
        write = store.batch()
        desk.store_touched(write)
        store.write(write)
        desk.clear()

    wrote(first)
    wrote(other)
    assert person in desk.at_hand
    monkeypatch.setattr("flows.desk.AT_HAND_BYTES", 100)
    wrote(other)
    assert person in desk.before
    wrote(other)
    assert person not in {**desk.at_hand, **desk.before}
    assert other.person.id in {**desk.at_hand, **desk.before}


def test_who_is_evicted_is_read_again(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    (event,) = events(track("A", 0))
    desk.load_for([event])
    profile = desk.profiles[event.person.id]
    desk.clear()
    desk.evict(event.person.id)
    desk.evict(b"n" * 16)
    desk.load_for([event])
    assert desk.profiles[event.person.id] is not profile


def test_two_new_people_share_nothing() -> None:
    one, two = Profile(), Profile()
    one.members.add(1)
    one.dues[1] = 5
    one.identifiers.append("x")
    assert (two.members, two.dues, two.identifiers) == (set(), {}, [])


def test_firing_opens_the_groups_of_what_is_due_and_no_others(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    handlers = {handler.kind: handler.number for handler in COMPILED.plan.handlers}
    one, two, three = desk.load([b"1" * 16, b"2" * 16, b"3" * 16])
    for profile, dues in ((one, {handlers[A]: 5}), (two, {handlers[C]: 5, handlers[A]: 6}), (three, {handlers[A]: 9})):
        profile.dues, profile.due = dues, min(dues.values())
    asked = len(store.asked)
    desk.open_due([one, two, three], 5)
    assert len(store.asked) == asked + 1
    assert [set(profile.groups) for profile in (one, two, three)] == [reads(A), reads(C), set()]
    desk.open_due([one, two, three], 5)
    assert len(store.asked) == asked + 1, "what is open is not read again"


def test_loading_brings_only_who_is_not_there(store: CountingStore) -> None:
    desk = Desk(COMPILED, store, {})
    (first,) = desk.load([b"1" * 16])
    assert desk.load([b"1" * 16, b"2" * 16, b"2" * 16]) == [desk.profiles[b"2" * 16]]
    assert desk.profiles[b"1" * 16] is first
    assert desk.load([]) == []
