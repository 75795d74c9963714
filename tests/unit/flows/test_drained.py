"""When a job is drained: seen twice, with every end known and nothing on its way."""

from __future__ import annotations

from flows.drained import Drained
from flows.inputs import Input
from flows.loop import Arrived, Loop, local_topic_id
from flows.mail import LOCAL_TOPICS
from tests.oracle.builders import DAY_0, happened, project, track


class Inputs:
    """The inputs of a loop, and what is known of their ends."""

    def __init__(self, loop: Loop) -> None:
        self.events = [Input("events", local_topic_id("events"), 0, 0, 0)]
        self.control = Input("control", LOCAL_TOPICS.control_id, 0, 0, 0)
        self.known: int | None = None
        self.drained = Drained(loop.actors, self.events, lambda _: self.known, [self.control])


def begin(loop: Loop) -> None:
    for actor in loop.actors:
        actor.begin([(local_topic_id("events"), 0, 0, 0), (LOCAL_TOPICS.control_id, 0, 0, 0)])


def settle(loop: Loop, time_ms: int) -> None:
    """What was sent is delivered, committed and trimmed."""
    loop.commit()
    loop.advance(time_ms)


def test_it_is_seen_twice_and_ends_with_an_event() -> None:
    loop = Loop(project({"a": happened("A")}), 2)
    begin(loop)
    inputs = Inputs(loop)
    drained = inputs.drained
    assert not drained.look(), "an end that is not known"
    inputs.known = 0
    assert not drained.look(), "the control topic was not read to its end"
    inputs.control.at_end = True
    assert [drained.look(), drained.look()] == [False, True]
    loop.feed([Arrived("events", 0, 0, DAY_0, track("A", 0, "ann", anonymousId="d"))])
    assert not drained.look(), "what was sent is not known to be delivered"
    settle(loop, DAY_0 + 2_000)
    inputs.known = 1
    assert [drained.look(), drained.look()] == [False, True]
    inputs.known = 2
    assert not drained.look(), "there is another event"


def test_mail_on_its_way_is_waited_for() -> None:
    loop = Loop(project({"a": happened("A")}), 2)
    begin(loop)
    inputs = Inputs(loop)
    inputs.known, inputs.control.at_end = 0, True
    drained = inputs.drained
    loop.actors[0].send(1, "mark", b"\x91\x01")
    assert not drained.look()
    loop.advance(1_000)
    settle(loop, 4_000)
    assert [drained.look(), drained.look()] == [False, True]
