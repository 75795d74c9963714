"""The durable formats of identity against what they were: a difference is a change of the format."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.identity.letters import (
    LETTERS,
    Accept,
    Astray,
    Claim,
    Claims,
    Conflict,
    Erase,
    Forward,
    Forwards,
    Granted,
    Grants,
    Lost,
    Meet,
    Offer,
    Origin,
    Refuse,
    Resume,
    Sent,
    State,
    Suit,
    Vanish,
    Withheld,
    decode,
    encode,
    kind_of,
)
from flows.identity.notes import History, decode_history
from flows.identity.parts import Parts
from flows.identity.suppression import Entry, decode_entry, encode_entry
from opportune.errors import RejectedEvent
from opportune.profile import ELSEWHERE, FROZEN, Profile
from state.memory import MemoryStore

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "flows" / "identity.txt"
ONE, OTHER = bytes(range(16)), bytes(range(16, 32))
NOW = 1_700_000_000_000
MARK = 2**63 + 5
ORIGIN = Origin(NOW - 1, "events/2/40", "m1")
SUIT = Suit("anonymous_id:d1", ONE, 0, ["user_id:ann"], OTHER, 3, NOW, ORIGIN)
GRANTED = Granted(ONE, "anonymous_id:d1", 4, opposed=True, origin=ORIGIN)
STATE = State(
    OTHER,
    NOW,
    ["big_spenders", "recent"],
    ["anonymous_id:d1"],
    ["email:x"],
    {MARK: 3},
    [2**64 - 1],
    {"00112233445566aa": b"\x91\x02"},
    b"",
    ["email:x"],
)
FORWARD = Forward(ONE, [Sent(b"{}", NOW, NOW + 1, "events", 2, 40, 1)])
LETTER = [
    Claim(SUIT, take=True),
    Claims([SUIT, SUIT]),
    GRANTED,
    Grants([GRANTED]),
    Lost(OTHER, "anonymous_id:d1", 4),
    Meet(OTHER, ONE, 1, ["email:x"], SUIT, claiming=False),
    Offer(ONE, STATE, SUIT, claiming=True),
    Accept(OTHER, ONE, NOW),
    Refuse(OTHER, ONE, SUIT, claiming=True),
    Conflict(ONE, SUIT),
    FORWARD,
    Forwards([FORWARD, FORWARD]),
    Erase(ONE, "r1", OTHER, NOW, thaw=True),
    Vanish(OTHER, "anonymous_id:d1", 4, NOW, ONE),
    Withheld(ONE, "anonymous_id:d1"),
    Resume(OTHER, SUIT, claiming=True),
    Astray(ONE, [Sent(b"{}", NOW, NOW + 1, "events", 2, 40, 1)]),
]
HEAD = Profile(
    version=NOW * 1024,
    now=NOW,
    timer=NOW + 5,
    due=NOW + 5,
    dues={1: NOW + 5},
    members={2},
    identifiers=["user_id:ann", "email:x"],
    fate=FROZEN | ELSEWHERE,
    into=ONE,
    founder=OTHER,
    rank=1,
    pending=["anonymous_id:d1"],
    absorbed=[2**64 - 1],
    turns={MARK: 1},
    stage=4,
    rowless=["email:x"],
    strong=["user_id:ben"],
)


HISTORY = History(
    last=[(NOW, "attached", "anonymous_id:d1", "events/2/40", "m1")],
    counts={"attached": 1, "refused": 900},
    came={MARK: ORIGIN},
    settled=[MARK],
    opposed=2,
    merged=[OTHER],
)


ENTRY = Entry(NOW, NOW, NOW, 2, NOW + 9, NOW + 1, ["user_id:#ab"], "r1", "r2", 3, rows=True)


def written() -> list[str]:
    letters = [f"{kind_of(letter)} {encode(letter).hex()}" for letter in LETTER]
    kept = [f"head {encode(HEAD).hex()}", f"history {encode(HISTORY).hex()}", f"entry {encode_entry(ENTRY).hex()}"]
    return [*letters, *kept]


def test_letters_and_heads_are_written_as_ever() -> None:
    assert {kind_of(letter) for letter in LETTER} == set(LETTERS)
    assert written() == GOLDEN.read_text().splitlines()


def test_letters_and_heads_are_read_as_ever() -> None:
    *letters, head, history, entry = (line.split() for line in GOLDEN.read_text().splitlines())
    assert [decode(kind, bytes.fromhex(body)) for kind, body in letters] == LETTER
    assert msgspec.msgpack.decode(bytes.fromhex(head[1]), type=Profile) == HEAD
    assert decode_history(bytes.fromhex(history[1])) == HISTORY
    assert decode_entry(bytes.fromhex(entry[1])) == ENTRY


@given(st.sampled_from(sorted(LETTERS)), st.binary(max_size=60))
def test_other_bytes_are_refused(kind: str, body: bytes) -> None:
    try:
        letter = decode(kind, body)
    except RejectedEvent:
        return
    assert isinstance(letter, LETTERS[kind])


def test_a_large_letter_goes_in_pieces_also_over_a_restart() -> None:
    store, body = MemoryStore(), bytes(range(256)) * 5
    pieces = list(Parts(store, 500).cut("offer", body))
    assert [kind for kind, _ in pieces] == ["part"] * 3
    whole = None
    for _, piece in pieces:
        assert whole is None
        write = store.batch()
        whole = Parts(store, 500).take(3, piece, write)
        store.write(write)
    assert whole == ("offer", body)
    assert not list(store.scan("identifiers"))
    with pytest.raises(RejectedEvent):
        Parts(store).take(3, pieces[1][1], store.batch())
