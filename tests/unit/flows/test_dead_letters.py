from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from flows.batch import LocalRecord
from flows.dead_letters import CUT_BYTES, DeadLetters, dead_letter
from opportune.errors import RejectedEvent
from opportune.event import REASONS
from state.outbox import OutboxMessage

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = msgspec.json.decode((ROOT / "opportune" / "schemas" / "dead_letter.json").read_bytes())


def headers_of(letter: OutboxMessage) -> dict[str, str]:
    found = {name: value.decode() for name, value in letter.headers}
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_a_dead_letter_is_the_original_and_says_why() -> None:
    letter = dead_letter(
        "bad_time", "timestamp", "in", 3, 77, b"\xff{", b"k", [("trace", b"1"), ("none", None)], to="dead"
    )
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("dead", -1, b"k", b"\xff{")
    assert headers_of(letter) == {
        "trace": "1",
        "none": "",
        "opportune-reason": "bad_time",
        "opportune-detail": "timestamp",
        "opportune-topic": "in",
        "opportune-partition": "3",
        "opportune-offset": "77",
        "opportune-size": "2",
    }


@pytest.mark.parametrize(
    ("reason", "size", "cut"),
    [
        ("too_large", CUT_BYTES, False),
        ("too_large", CUT_BYTES + 1, True),
        ("bad_time", 300_000, False),
        ("bad_time", 300_001, True),
    ],
)
def test_what_is_too_large_is_cut_and_says_so(reason: str, size: int, cut: bool) -> None:
    letter = dead_letter(reason, "", "in", 0, 0, b"x" * size, to="dead", whole_bytes=300_000)
    assert letter.value is not None
    assert len(letter.value) == (CUT_BYTES if cut else size)
    found = headers_of(letter)
    assert found["opportune-size"] == str(size)
    assert ("opportune-cut" in found) is cut


def test_keys_headers_and_details_are_bounded() -> None:
    letter = dead_letter(
        "too_large",
        "d" * 9_000,
        "in",
        0,
        0,
        None,
        b"k" * 99_999,
        [("h", b"v" * 99_999), ("opportune-reason", b"lie")],
        to="x",
    )
    found = headers_of(letter)
    assert letter.value is None
    assert len(letter.key or b"") == CUT_BYTES
    assert "h" not in found
    assert found["opportune-reason"] == "too_large"
    assert len(found["opportune-detail"]) == 500


def test_a_refused_record_becomes_one() -> None:
    record = LocalRecord("events.jsonl", 0, 12, b"no")
    letter = DeadLetters("dead", 1_000).message(record, RejectedEvent("not_json", "at byte 0"))
    assert letter.topic == "dead"
    assert headers_of(letter)["opportune-offset"] == "12"


def test_schema_and_docs_know_every_reason() -> None:
    assert set(SCHEMA["properties"]["opportune-reason"]["enum"]) == set(REASONS)
    docs = (ROOT / "docs" / "dead-letters.md").read_text()
    assert [reason for reason in REASONS if f"`{reason}`" not in docs] == []
