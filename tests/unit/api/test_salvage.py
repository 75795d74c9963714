"""One message that is no JSON does not take a batch with it; and what is cut out is what a decoder would have cut out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.collector import salvage
from api.collector.answers import Refused
from api.collector.messages import Reader, read

GOOD = b'{"type":"track","event":"Bought \\" ]},{[","userId":"ada","properties":{"n":[1,{"a":"\\\\"}],"price":1.10}}'


def taken(body: bytes) -> tuple[list[Any], list[tuple[int, str, str]]]:
    """The messages that are taken, and place, word and sentence of those that are not."""
    records, refused = Reader(32_768, 64).records(read(body), None, "web", 1_767_225_600_000)
    return [json.loads(one.value) for one in records], [(one.index, one.code, one.message) for one in refused]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"type":"track","event":"B","userId":"a","properties":{"title":"cut \\ud83d"}}', "half of a character"),
        (b'{"type":"track","event":"B","userId":"a","properties":{"n":NaN}}', "NaN"),
        (b'{"type":"track","event":"B","userId":"a","properties":{"n":-Infinity}}', "NaN"),
        (
            b'{"type":"track","event":"B","userId":"a","properties":{"n":' + b"[" * 9_000 + b"]" * 9_000 + b"}}",
            "nested too deeply",
        ),
        (b'{"type":"track","event":"caf\xe9","userId":"a"}', "UTF-8"),
        (b"undefined", "JSON"),
        (b"", "JSON"),
    ],
)
def test_one_that_is_no_json_leaves_the_others(bad: bytes, told: str) -> None:
    events, refused = taken(
        b' {"sentAt": "2026-01-01T00:00:00Z", "batch" : [' + GOOD + b" ,\n" + bad + b"," + GOOD + b"]} "
    )
    assert [one["event"] for one in events] == ['Bought " ]},{['] * 2
    assert all(one["sentAt"] == "2026-01-01T00:00:00Z" for one in events)
    assert [(place, code) for place, code, _ in refused] == [(1, "bad_shape")]
    assert told in refused[0][2]


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":[' + GOOD + b",{]}",
        b'{"batch":[' + GOOD,
        b'{"batch":[' + GOOD + b']}, "x"',
        b'{"batch":[' + GOOD + b',"no end]}',
        b'[{"batch":[' + GOOD + b",NaN]}]",
        b'{"batch":{"a":NaN}}',
        b'{"batches":[NaN]}',
        b'{"type":"track","event":"B","userId":"a","properties":{"n":NaN}}',
        b"[" * 200_000,
        b'"' * 200_001,
    ],
)
def test_what_cannot_be_taken_apart_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Refused) as raised:
        read(body)
    assert (raised.value.status, raised.value.code) == (400, "not_json")


def test_the_mark_of_utf_8_before_a_body_is_no_part_of_it() -> None:
    assert taken(b'\xef\xbb\xbf{"batch":[' + GOOD + b"]}")[1] == []


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(['"', "\\", "]}", "{[", ",", ":", '\\"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 2]), st.booleans())
def test_the_pieces_are_those_of_a_decoder(values: list[Any], indent: int | None, ascii_only: bool) -> None:
    blob = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert [json.loads(piece.decode("utf-8", "surrogatepass")) for piece in salvage.pieces(blob, b"[")] == values


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\ a1', max_size=40).map(str.encode))
@example(b"[]")
def test_any_bytes(blob: bytes) -> None:
    try:
        found = salvage.pieces(blob, b"[")
    except salvage.Broken:
        with pytest.raises(msgspec.MsgspecError):
            msgspec.json.decode(blob, type=list[msgspec.Raw])
        return
    assert len(found) <= blob.count(b",") + 1
