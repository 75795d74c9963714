"""Control records: their layout for ever, and what a shard does about them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.control import (
    Decisions,
    Erased,
    Forget,
    Forgotten,
    SnapshotDecision,
    Started,
    control_message,
    decode_decision,
    encode_decision,
)
from flows.in_force import in_force
from flows.loop import Loop
from flows.mail import Piece
from opportune.errors import RejectedEvent, StateError
from opportune.project import Project
from opportune.settings import Settings
from state.in_force import META_WAREHOUSE, InForce
from state.keys import META_STARTED
from state.memory import MemoryStore
from state.store import Batch as Write

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "flows"
STARTED = Started(generation=1, plan="1f" * 8, routing="a0" * 8, shards=12, at="2026-11-24T10:00:00.000Z")
SNAPSHOT = SnapshotDecision(generation=1, tables={"customers": "0001795517698966"}, at="2026-11-24T10:54:59.100Z")
FORGET = Forget(request="r1", identifiers=["0a" * 16], at="2026-11-24T11:00:00.000Z")
FORGOTTEN = Forgotten(
    generation=1,
    request="r1",
    asked="0a" * 16,
    profile="0b" * 16,
    identifiers=["0a" * 16, "0b" * 16],
    until=1_700_000_000_000,
)
ERASED = Erased(generation=1, request="r1", at="2026-11-24T11:00:01.000Z")
IN_FORCE = InForce(
    versions={"customers": "0001795517698966"},
    at=1_700_000_000_000,
    done=False,
    before={"customers": "0001795517698000"},
    waiting={"customers": "0001795517699000"},
)
PROJECT = Project(name="test", directory=Path(), settings=Settings(), models={}, tables={}, audiences=())


def later(generation: int, at: str = "2026-11-24T11:00:00.000Z") -> bytes:
    return encode_decision(msgspec.structs.replace(STARTED, generation=generation, at=at))


def test_the_layout_is_as_ever() -> None:
    golden = (GOLDEN / "started.json").read_bytes().rstrip(b"\n")
    assert encode_decision(STARTED) == golden
    assert decode_decision(golden) == STARTED


def test_the_layout_of_snapshots_is_as_ever() -> None:
    golden = (GOLDEN / "snapshot.json").read_bytes().rstrip(b"\n")
    assert encode_decision(SNAPSHOT) == golden
    assert decode_decision(golden) == SNAPSHOT


@pytest.mark.parametrize("decision", [FORGET, FORGOTTEN, ERASED])
def test_the_layouts_of_erasures_are_as_ever(decision: Forget | Forgotten | Erased) -> None:
    golden = (GOLDEN / f"{decision.kind}.json").read_bytes().rstrip(b"\n")
    assert encode_decision(decision) == golden
    assert decode_decision(golden) == decision


@pytest.mark.parametrize(
    "value",
    [
        encode_decision(FORGET).replace(b"0a0a", b"zz0a"),
        encode_decision(FORGET).replace(b'["' + b"0a" * 16 + b'"]', b"[]"),
        encode_decision(FORGOTTEN).replace(b'"until":', b'"till":'),
        encode_decision(ERASED).replace(b'"r1"', b'""'),
    ],
)
def test_what_is_no_erasure_is_refused(value: bytes) -> None:
    with pytest.raises(RejectedEvent, match="bad_mail"):
        decode_decision(value)


def test_what_is_in_force_is_kept_as_ever() -> None:
    golden = (GOLDEN / "in_force.json").read_bytes().rstrip(b"\n")
    assert msgspec.json.encode(IN_FORCE) == golden
    store = MemoryStore()
    write = store.batch()
    write.put(META_WAREHOUSE, golden, store.family("meta"))
    store.write(write)
    assert in_force(store) == IN_FORCE


def test_snapshots_are_handed_out_once_and_leave_what_started() -> None:
    decisions = Decisions(MemoryStore(), 1)
    decisions.take(encode_decision(STARTED))
    decisions.take(encode_decision(SNAPSHOT))
    assert decisions.started == STARTED
    assert (decisions.snapshots(), decisions.snapshots()) == ([SNAPSHOT.tables], [])
    with pytest.raises(StateError, match="generation 2"):
        decisions.take(encode_decision(msgspec.structs.replace(SNAPSHOT, generation=2)))


def test_a_record_is_appended_to_the_one_partition() -> None:
    message = control_message("shop.control", STARTED)
    assert (message.topic, message.partition, message.key) == ("shop.control", 0, None)
    assert decode_decision(message.value or b"") == STARTED


RECORDS = st.sampled_from(
    [
        encode_decision(STARTED),
        encode_decision(SNAPSHOT),
        encode_decision(FORGET),
        encode_decision(FORGOTTEN),
        b'{"version":2,"kind":"started"}',
        b'{"version":1}',
        b"[]",
    ]
)


@given(st.binary(max_size=60) | st.tuples(RECORDS, st.integers(0, 150), st.binary(max_size=3)).map(
    lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
))  # fmt: skip
@example(b"[" * 5_000)
@example(b'{"version":0,"kind":"started"}')
def test_any_bytes_are_a_decision_or_an_error(value: bytes) -> None:
    try:
        decode_decision(value)
    except (RejectedEvent, StateError) as error:
        told = str(error)
    else:
        return
    assert told.startswith("bad_mail: ") or "newer version" in told


@pytest.mark.parametrize("value", [b'{"version":2,"kind":"started","x":1}', b'{"version":1,"kind":"rollback"}'])
def test_what_a_newer_version_decided_is_never_skipped(value: bytes) -> None:
    with pytest.raises(StateError, match="newer version of Opportune"):
        Decisions(MemoryStore(), 1).take(value)


def test_the_last_start_is_kept_with_the_position_behind_it() -> None:
    loop = Loop(PROJECT, 2)
    loop.control += [encode_decision(STARTED), later(1)]
    loop.advance(5_000)
    assert [actor.decisions.started for actor in loop.actors] == [decode_decision(later(1))] * 2
    loop.commit()
    loop.restart()
    for actor in loop.actors:
        assert actor.decisions.started == decode_decision(later(1))
        assert actor.positions.get(loop.topics.control_id, 0) == (2, 0)


def test_a_process_whose_state_went_on_elsewhere_stops() -> None:
    loop = Loop(PROJECT, 2)
    loop.control += [encode_decision(STARTED), later(2)]
    with pytest.raises(StateError, match=r"control topic, at .*, tells of generation 2"):
        loop.advance(5_000)


def test_starts_of_earlier_generations_are_the_past() -> None:
    decisions = Decisions(MemoryStore(), 3)
    decisions.take(later(1))
    decisions.take(later(2))
    assert decisions.started == decode_decision(later(2))


def test_what_nobody_can_read_is_one_dead_letter_though_all_shards_read_it() -> None:
    loop = Loop(PROJECT, 3)
    loop.control += [b"no", encode_decision(STARTED)]
    loop.advance(5_000)
    (letter,) = loop.letters
    headers = dict(letter.headers)
    assert (letter.value, headers["opportune-reason"], headers["opportune-topic"]) == (b"no", b"bad_mail", b"control")
    assert all(actor.decisions.started == STARTED for actor in loop.actors)


def test_a_damaged_state_says_so() -> None:
    store = MemoryStore()
    write = store.batch()
    write.put(META_STARTED, b"{", store.family("meta"))
    store.write(write)
    with pytest.raises(StateError, match="damaged"):
        Decisions(store, 1)


def test_the_loop_carries_mail_to_the_shard_that_it_is_for() -> None:
    loop = Loop(PROJECT, 2)
    heard: list[tuple[int, bytes]] = []

    def note(piece: Piece, _: Write) -> bool:
        heard.append((piece.receiver, piece.body))
        if piece.receiver == 1:
            loop.actors[1].send(0, "note", b"back: " + piece.body)
        return False

    for actor in loop.actors:
        actor.mailbox.kinds["note"] = note
    loop.actors[0].send(1, "note", b"hello")
    loop.advance(1_000)
    assert heard == [(1, b"hello"), (0, b"back: hello")]
