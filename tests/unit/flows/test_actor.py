"""One shard: nothing twice, nothing lost, in order, and nothing of a batch whose write failed."""

from __future__ import annotations

from flows.actor import SWEEP_MAX
from flows.batch import Batch
from opportune.audiences.schema import All, Condition, Not, TraitCondition
from opportune.identity import profile_id
from opportune.settings import Clock, Dedupe, Settings
from state.keys import decode_member, decode_membership, decode_timer
from tests.oracle.builders import DAY_0, happened, identify, message, predicate, track, where
from tests.unit.flows.one_shard import TOPIC, Shard, Told, changes, letters, told

A10 = happened("A", within_ms=10)
A3 = happened("A", times=predicate(gte=3))


def a(at: int, person: str = "ann", **fields: object) -> tuple[bytes, int]:
    """An event A and its arrival."""
    return track("A", at, person, **fields), at


def test_the_order_of_things_at_one_instant() -> None:
    shard = Shard({"a": A10, "quiet": All((happened("B"), Not((A10,))))})
    assert told(shard.feed(a(0), (track("B", 5), 5))) == [Told(0, "a", "entered", "event")]
    # Due at 10: before an event at 11 it is time that did it, at 10 it is the event.
    assert told(shard.feed((track("B", 11), 11))) == [
        Told(10, "a", "exited", "time"),
        Told(10, "quiet", "entered", "time"),
    ]
    other = Shard({"a": A10})
    other.feed(a(0))
    assert told(other.feed((track("A", 0), 10))) == [Told(10, "a", "exited", "event")]


def test_timers_of_others_fire_as_log_time_passes_them() -> None:
    shard = Shard({"a": A10})
    shard.feed(a(0), a(1, "bob"))
    assert told(shard.advance(10)) == []
    assert told(shard.advance(11)) == [Told(10, "a", "exited", "time")]
    assert told(shard.advance(12)) == [Told(11, "a", "exited", "time")]
    assert list(shard.store.scan("timers")) == []


def test_a_dead_letter_has_its_bytes_and_its_place() -> None:
    shard = Shard({"a": A3})
    shard.feed(a(0), partition=4)
    (letter,) = shard.feed((b"{oops", 1), partition=4)
    assert letter.value == b"{oops"
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["opportune-topic"] == TOPIC
    assert (headers["opportune-partition"], headers["opportune-offset"]) == ("4", "1")


def test_a_storm_of_timers_is_worked_off_in_slices_and_whoever_has_an_event_goes_first() -> None:
    people = 2 * SWEEP_MAX + 500
    shard = Shard({"a": A10, "b": happened("B")})
    shard.feed(*(a(0, f"u{number}") for number in range(people)))
    first = shard.actor.apply(Batch(DAY_0 + 1_000, [], []))
    assert len(first) == SWEEP_MAX
    assert len(list(shard.store.scan("timers"))) == people - SWEEP_MAX
    gone = {change.profile_id for change in changes(first)}
    last = next(f"u{n}" for n in range(people) if profile_id("user_id", f"u{n}").hex() not in gone)
    between = shard.feed((track("B", 1_000, last), 1_000), time=1_000)
    theirs = [one for one in changes(between) if one.profile_id == profile_id("user_id", last).hex()]
    assert [(one.audience, one.change, one.cause) for one in theirs] == [
        ("a", "exited", "time"),
        ("b", "entered", "event"),
    ]
    rest = first + between
    while shard.actor.overdue:
        part = shard.actor.sweep()
        assert len(part) <= SWEEP_MAX
        rest += part
    exits = [one for one in changes(rest) if one.change == "exited"]
    assert len(exits) == len({one.profile_id for one in exits}) == people
    assert {one.at for one in exits} == {"2023-11-14T22:13:20.010Z"}
    assert list(shard.store.scan("timers")) == []


def test_late_events_retract() -> None:
    quiet = All((A10, Not((happened("B", within_ms=20),))))
    shard = Shard({"quiet": quiet})
    assert told(shard.feed(a(5))) == [Told(5, "quiet", "entered", "event")]
    assert told(shard.feed((track("B", 2), 6))) == [Told(6, "quiet", "exited", "event")]


def test_a_message_id_counts_once_within_the_period() -> None:
    shard = Shard({"three": A3}, Settings(dedupe=Dedupe(period_ms=1_000)))
    shard.feed(a(0, messageId="m"), a(0, messageId="m"))
    shard.feed(a(999, messageId="m"))
    assert shard.actor.counts["duplicates"] == 2
    assert told(shard.feed(a(1_000, messageId="m"))) == []
    # The newest use counts from now on.
    shard.start()
    shard.feed(a(1_999, messageId="m"))
    assert shard.actor.counts["duplicates"] == 1
    assert told(shard.feed(a(2_000, messageId="m"))) == [Told(2_000, "three", "entered", "event")]


def test_an_id_that_was_not_used_is_no_duplicate_and_no_id_is_none() -> None:
    free = where("plan", predicate(eq="free"))
    shard = Shard({"free": happened("A", free, times=predicate(gte=2))})
    paid = track("A", 0, messageId="m", properties={"plan": "paid"})
    shard.feed((paid, 0), (track("B", 0, messageId="m"), 0))
    free_one = track("A", 1, messageId="m", properties={"plan": "free"})
    shard.feed((free_one, 1), (free_one, 2))
    shard.feed((track("A", 3, "bob", messageId="m", properties={"plan": "free"}), 3))
    assert shard.actor.counts["duplicates"] == 1
    for empty_id in ({}, {"messageId": None}, {"messageId": ""}):
        free_again = track("A", 4, "cid", properties={"plan": "free"}, **empty_id)
        shard.feed((free_again, 4), (free_again, 4))
    assert shard.actor.counts["duplicates"] == 1


def test_a_number_and_its_text_are_one_message_id() -> None:
    shard = Shard({"three": A3})
    shard.feed(a(0, messageId=7), a(0, messageId="7"), a(0, messageId=7.0))
    assert shard.actor.counts["duplicates"] == 2


def test_a_trait_that_is_older_than_the_one_that_holds_uses_its_id() -> None:
    shard = Shard({"set": TraitCondition(("plan",), predicate(exists=True))})
    shard.feed((identify(5, traits={"plan": "a"}, messageId="m1"), 5))
    shard.feed(
        (identify(1, traits={"plan": "b"}, messageId="m2"), 6), (identify(9, traits={"plan": "c"}, messageId="m2"), 9)
    )
    assert shard.actor.counts["duplicates"] == 1


def test_too_late_is_judged_by_the_persons_own_now() -> None:
    shard = Shard({"a": happened("A", within_ms=5_000)}, Settings(clock=Clock(lateness_ms=100)))
    shard.feed(a(1_000))
    assert letters(shard.feed(a(900), a(950), partition=1)) == []
    assert letters(shard.feed((track("A", 899), 950), partition=1)) == ["too_late"]
    # Somebody else has no such now, and the record's own arrival decides.
    assert letters(shard.feed((track("A", 850, "bob"), 950), (track("A", 849, "bob"), 950), partition=1)) == [
        "too_late"
    ]


def test_a_persons_now_never_goes_back() -> None:
    shard = Shard({"a": A10, "b": happened("B")})
    shard.feed(a(100))
    found = changes(shard.feed((track("B", 50), 50), partition=1))
    assert [(one.audience, one.at) for one in found] == [("b", "2023-11-14T22:13:20.100Z")]
    shard.advance(200)
    found = changes(shard.feed((track("A", 90), 95), partition=1))
    assert found == [], "at 110 it has left the window"


def test_events_of_one_person_in_one_batch_are_taken_in_order_of_arrival() -> None:
    shard = Shard({"a": A10, "b": All((happened("B"), A10))})
    shard.log = {0: [a(30)], 1: [(track("A", 0), 0), (track("B", 5), 5)]}
    one, two = shard.batch(0, partition=0), shard.batch(0, partition=1)
    found = told(shard.actor.apply(Batch(0, [*one.spans, *two.spans], [*one.events, *two.events])))
    assert found == [
        Told(0, "a", "entered", "event"),
        Told(5, "b", "entered", "event"),
        Told(10, "a", "exited", "time"),
        Told(10, "b", "exited", "time"),
        Told(30, "a", "entered", "event"),
        Told(30, "b", "entered", "event"),
    ]


def test_the_members_index_is_the_memberships() -> None:
    shard = Shard({"a": A10, "three": A3})
    for at in (0, 1, 2):
        shard.feed(a(at), a(at, "bob"))
    newest = {(one.profile_id, one.audience): one for one in changes(shard.feed(a(5, "cid")))}
    assert newest
    shard.advance(13)
    index = {}
    for key, value in shard.store.scan("members"):
        number, profile = decode_member(key)
        index[profile, shard.compiled.names[number]] = decode_membership(value)[0] - DAY_0
    ann, bob, cid = (profile_id("user_id", name) for name in ("ann", "bob", "cid"))
    assert index == {(ann, "three"): 2, (bob, "three"): 2, (cid, "a"): 5}


def test_versions_rise_and_follow_time() -> None:
    shard = Shard({"a": A10, "b": happened("A"), "c": Not((A10,))})
    found = changes(shard.feed(a(0))) + changes(shard.feed(a(30)))
    versions = [one.version for one in found]
    assert versions == sorted(set(versions))
    assert versions[0] == DAY_0 * 1024
    assert [one.id for one in found] == [f"{one.profile_id}/{one.version}" for one in found]
    assert [one.version - (DAY_0 + 30) * 1024 for one in found[-2:]] == [0, 1]


def test_a_change_names_its_event_and_the_identifier() -> None:
    shard = Shard({"a": A10})
    (entered,) = changes(shard.feed(a(0, messageId="m-1")))
    assert (entered.event_id, entered.identifiers) == ("m-1", {"user_id": ["ann"]})
    (exited,) = changes(shard.advance(11))
    assert (exited.event_id, exited.cause) == (None, "time")
    anonymous = message("track", 20, None, anonymousId="a:b/c", event="A")
    (entered,) = changes(shard.feed((anonymous, 20)))
    assert (entered.event_id, entered.identifiers) == (None, {"anonymous_id": ["a:b/c"]})


def test_everybody_who_exists_is_in_the_complement_and_an_event_of_no_use_founds_a_person() -> None:
    shard = Shard({"no_a": Not((happened("A"),)), "none": Not((happened("Z", within_ms=5),))})
    assert told(shard.feed((message("alias", 3), 3), (track("Q", 4), 4))) == [
        Told(3, "no_a", "entered", "event"),
        Told(3, "none", "entered", "event"),
    ]
    assert shard.actor.counts["profiles"] == 1
    assert told(shard.feed((track("A", 0, "bob"), 5))) == [Told(5, "none", "entered", "event")]
    shard.start()
    assert told(shard.feed((track("Q", 6), 6))) == []
    assert shard.actor.counts["profiles"] == 0


def test_an_event_that_touches_nothing_stops_before_the_actor_once_its_person_is_known() -> None:
    shard = Shard({"a": A10})
    shard.feed((track("Q", 0), 0))
    assert shard.router.untouched == 0
    shard.feed((track("Q", 1), 1), (track("Q", 2, "bob"), 2))
    assert shard.router.untouched == 1
    assert shard.actor.counts["profiles"] == 2


def test_a_profile_has_one_timer_and_it_is_not_late() -> None:
    shard = Shard({"a": A10, "b": happened("B", within_ms=3), "c": happened("A", within_ms=50)})
    shard.feed(a(0))
    shard.feed((track("B", 1), 1))
    timers = [decode_timer(key)[0] - DAY_0 for key, _ in shard.store.scan("timers")]
    assert timers == [4]
    shard.feed(a(2), a(3))
    assert [decode_timer(key)[0] - DAY_0 for key, _ in shard.store.scan("timers")] == [4]
    shard.advance(5)
    # Early by three: A came again. Moving it with every event would cost more than firing for nothing.
    assert [decode_timer(key)[0] - DAY_0 for key, _ in shard.store.scan("timers")] == [10]
    assert told(shard.advance(11)) == []
    assert [decode_timer(key)[0] - DAY_0 for key, _ in shard.store.scan("timers")] == [13]


def test_state_and_changes_are_the_same_however_batches_are_cut_between_instants() -> None:
    log = [a(at // 3, f"u{at % 4}", messageId=f"m{at % 7}") for at in range(60)]
    log += [(track("B", at, f"u{at % 4}"), at) for at in range(20, 40)]
    audiences: dict[str, Condition] = {"a": A10, "three": A3, "b": All((happened("B", within_ms=5), Not((A10,))))}
    whole = Shard(audiences)
    expected = told(whole.feed(*log)) + told(whole.advance(1_000))
    for size in (3, 15, 30):
        cut = Shard(audiences)
        found: list[Told] = []
        for first in range(0, len(log), size):
            found += told(cut.feed(*log[first : first + size]))
        found += told(cut.advance(1_000))
        assert sorted(found) == sorted(expected)
        for name in ("profiles", "members", "timers"):
            assert cut.stored()[name] == whole.stored()[name]
