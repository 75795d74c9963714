from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from flows.cloud_events import cloud_event_headers, source_of
from opportune.membership import MembershipChange

SCHEMA = Path(__file__).resolve().parents[3] / "opportune" / "schemas" / "membership_change.json"
PROFILE = "0" * 31 + "f"
CHANGE = MembershipChange(
    id=f"{PROFILE}/1024",
    audience="pricing_intent",
    change="entered",
    profile_id=PROFILE,
    identifiers={"user_id": ["ann"]},
    at="2026-01-02T03:04:05.678Z",
    emitted_at="2026-01-02T03:04:05.700Z",
    cause="event",
    version=1_024,
    definition_version="abc",
)


def validator() -> Any:
    return Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        CHANGE,
        msgspec.structs.replace(CHANGE, change="exited", cause="time", event_id="m-1", approximate=True),
        msgspec.structs.replace(CHANGE, change="exited", cause="merged", merged_into="a" * 32),
        msgspec.structs.replace(CHANGE, cause="merged", merged_from=["a" * 32, "b" * 32]),
    ],
)
def test_what_is_encoded_is_what_the_schema_says(change: MembershipChange) -> None:
    document = msgspec.json.decode(msgspec.json.encode(change))
    validator().validate(document)
    assert set(document) <= set(validator().schema["properties"])


def test_the_schema_knows_every_field_and_requires_those_without_default() -> None:
    schema = validator().schema
    fields = msgspec.structs.fields(MembershipChange)
    assert set(schema["properties"]) == {field.name for field in fields}
    assert set(schema["required"]) == {field.name for field in fields if field.required}


@pytest.mark.parametrize("field", ["id", "profile_id", "version", "cause"])
def test_the_schema_refuses_what_lacks_a_field(field: str) -> None:
    document = msgspec.json.decode(msgspec.json.encode(CHANGE))
    del document[field]
    assert not validator().is_valid(document)


def test_headers_are_those_of_cloud_events() -> None:
    assert dict(cloud_event_headers(CHANGE, source_of("shop"))) == {
        "ce_specversion": b"1.0",
        "ce_id": CHANGE.id.encode(),
        "ce_source": b"/opportune/shop",
        "ce_type": b"opportune.membership.entered",
        "ce_time": b"2026-01-02T03:04:05.678Z",
        "ce_subject": PROFILE.encode(),
        "content-type": b"application/json",
    }
