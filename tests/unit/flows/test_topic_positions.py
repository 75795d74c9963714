from __future__ import annotations

import pytest

from flows.topic_positions import check_memberships, check_positions
from flows.topics import Topic, TopicSet
from opportune.errors import StateError

EVENTS, MAIL, CONTROL = b"e" * 16, b"m" * 16, b"c" * 16


def topics(starts: tuple[int, ...] = (0, 0), ends: tuple[int, ...] = (100, 100)) -> TopicSet:
    def topic(name: str, topic_id: bytes, starts: tuple[int, ...] = (0,), ends: tuple[int, ...] = (9,)) -> Topic:
        return Topic(name, topic_id, len(starts), True, starts, ends)

    return TopicSet(
        events=(topic("shop.events", EVENTS, starts, ends),),
        memberships=topic("shop.memberships", b"o" * 16),
        dead_letters=topic("shop.dead-letters", b"d" * 16),
        mailbox=topic("shop.mailbox", MAIL),
        control=topic("shop.control", CONTROL),
    )


def test_positions_within_the_topics_are_fine() -> None:
    assert check_positions({(EVENTS, 0): 0, (EVENTS, 1): 100, (MAIL, 0): 9, (CONTROL, 0): 3}, topics()) == []
    assert check_positions({}, topics()) == []


@pytest.mark.parametrize(
    ("position", "having", "what", "resume"),
    [
        (((b"x" * 16), 0, 7), topics(), "deleted and made anew", None),
        ((EVENTS, 1, 49), topics(starts=(0, 50)), "1 records that were not applied yet are gone", 50),
        ((EVENTS, 1, 101), topics(), "it lost records", 100),
        ((EVENTS, 2, 5), topics(), "fewer partitions", None),
    ],
)
def test_a_gap_is_refused_or_recorded(
    position: tuple[bytes, int, int], having: TopicSet, what: str, resume: int | None
) -> None:
    topic_id, partition, offset = position
    applied = {(topic_id, partition): offset, (EVENTS, 0): 10}
    with pytest.raises(StateError, match=what) as refused:
        check_positions(applied, having)
    assert "--accept-loss" in str(refused.value)
    losses = check_positions(applied, having, accept_loss=True)
    assert [(loss.topic_id, loss.partition, loss.position, loss.resume) for loss in losses] == [
        (topic_id, partition, offset, resume)
    ]


def test_a_topic_that_the_settings_no_longer_name_is_not_judged() -> None:
    gone = b"x" * 16
    assert check_positions({(gone, 0): 7}, topics(), names={gone: "shop.old-events"}) == []
    with pytest.raises(StateError, match=r"shop\.events\[0\]"):
        check_positions({(gone, 0): 7}, topics(), names={gone: "shop.events"})


def test_many_losses_are_told_in_short() -> None:
    with pytest.raises(StateError, match="and 30 more"):
        check_positions({(b"x" * 16, partition): 1 for partition in range(50)}, topics())


def test_an_end_between_the_positions_of_shards_is_a_loss_of_the_further_one() -> None:
    lowest, highest = {(EVENTS, 0): 90}, {(EVENTS, 0): 110}
    with pytest.raises(StateError, match="everything before 110 was applied"):
        check_positions(lowest, topics(), highest=highest)
    (loss,) = check_positions(lowest, topics(), highest=highest, accept_loss=True)
    assert [loss.moved(position) for position in (90, 110)] == [90, 100]


def test_a_start_moves_only_those_that_are_before_it() -> None:
    (loss,) = check_positions({(EVENTS, 0): 10}, topics(starts=(50, 0)), accept_loss=True)
    assert [loss.moved(position) for position in (10, 70)] == [50, 70]


def test_a_memberships_topic_that_was_made_anew_lacks_what_was_told() -> None:
    topic, former = topics().memberships, b"f" * 16
    assert check_memberships(topic, {}) == []
    assert check_memberships(topic, {topic.topic_id: topic.name, former: "shop.other", EVENTS: "shop.events"}) == []
    with pytest.raises(StateError, match=r"shop\.memberships was deleted and made anew: .* --accept-loss"):
        check_memberships(topic, {former: topic.name})
    assert check_memberships(topic, {former: topic.name}, accept_loss=True) == [former]
    assert check_memberships(topic, {former: "", topic.topic_id: topic.name}) == [], "it was accepted"
