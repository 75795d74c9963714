"""The collector's promises, on a real Kafka: what is taken, what is refused and how, and what a client is told."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opportune.event import instant_ms
from tests.api.conftest import Served
from tests.api.serving import Topic, ids, make_topic, serving, write_project
from tests.kafka.broker import Broker, Kafka


def track(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Bought", "userId": "ada", "messageId": f"m{number}", **fields}


def post(served: Served, body: Any, path: str = "/v1/batch", **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    options.setdefault("auth", (served.write_key, ""))
    return httpx.post(served.address + path, content=content, timeout=30, **options)


def test_one_bad_message_leaves_the_others(served: Served) -> None:
    batch = [
        track(1),
        {"type": "trak", "userId": "ada", "messageId": "bad"},
        track(2, userId=None, anonymousId=""),
        track(3, userId="", anonymousId="anon"),
        track(4, properties={"text": "x" * 40_000}),
        track(5, timestamp="yesterday"),
        track(6, userId=["ada"]),
        7,
    ]
    answer = post(served, {"batch": batch})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["accepted"]) == (True, 3)
    assert [(one["index"], one["code"]) for one in body["refused"]] == [
        (1, "bad_type"), (4, "too_large"), (5, "bad_time"), (6, "bad_shape"), (7, "bad_shape"),
    ]  # fmt: skip
    assert ids(served.topic.new()) == ["m1", "m2", "m3"]


def test_times_are_corrected_by_the_clients_clock_and_digits_stay(served: Served) -> None:
    price = "12345678901234567890.123456789"
    message = (
        b'{"type":"track","event":"Bought","userId":"ada","messageId":"m1","receivedAt":"1999-01-01T00:00:00Z",'
        b'"timestamp":"2026-01-01T00:00:00.123456+00:00","properties":{"price":%s}}' % price.encode()
    )
    body = b'{"sentAt":"2026-01-01T00:00:10Z","batch":[' + message + b"]}"
    assert post(served, body).status_code == 200
    (found,) = served.topic.new()
    assert found["originalTimestamp"] == "2026-01-01T00:00:00.123456+00:00"
    skew_ms = instant_ms(found["receivedAt"]) - instant_ms("2026-01-01T00:00:10Z")
    assert instant_ms(found["timestamp"]) - instant_ms("2026-01-01T00:00:00.123Z") == skew_ms
    assert found["properties"]["price"] == float(price)
    assert found["receivedAt"] > "2026-01"


@pytest.mark.parametrize(
    ("body", "options", "status", "code"),
    [
        (
            b'{"type":"track","userId":"a","timestamp":"0001-01-01T00:00:00Z","sentAt":"9999-12-31T23:59:59Z"}',
            {},
            400,
            "bad_time",
        ),
        (b'{"type":"track","userId":"a","sentAt":1e400}', {}, 400, "not_json"),
        (b"", {}, 400, "not_json"),
        (b"\xff\xfe", {}, 400, "not_json"),
        (b"[1]", {}, 400, "not_json"),
        (b'{"batch": 3}', {}, 400, "not_json"),
        (b'{"type": "track", "userId": {}}', {}, 400, "bad_shape"),
        (b'{"type":"track","userId":"a","properties":' + b"[" * 200 + b"]" * 200 + b"}", {}, 400, "bad_shape"),
        (b'{"batch":' + b"[" * 10_000 + b"]" * 10_000 + b"}", {}, 400, "bad_shape"),
        (b'{"batch":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "too_large"),
        (b"x" * 600_000, {}, 413, "too_large"),
        (gzip.compress(b" " * 50_000_000), {}, 413, "too_large"),
        (zlib.compress(b" " * 50_000_000), {"headers": {"Content-Encoding": "deflate"}}, 413, "too_large"),
        (gzip.compress(b"{}", mtime=0)[:-4], {}, 400, "bad_encoding"),
        (b"{}", {"headers": {"Content-Encoding": "gzip"}}, 400, "bad_encoding"),
        (b"{}", {"headers": {"Content-Encoding": "br"}}, 415, "unknown_encoding"),
        (b'{"batch":[]}', {"auth": ("nobody", "")}, 401, "invalid_write_key"),
    ],
)
def test_what_is_refused_says_code_and_message(
    served: Served, body: bytes, options: dict[str, Any], status: int, code: str
) -> None:
    answer = post(served, body, **options)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"]
    assert served.topic.new() == []


def test_a_reading_key_writes_nothing_and_a_write_key_reads_nothing(served: Served) -> None:
    assert post(served, {"batch": [track(1)]}, auth=(served.read_key, "")).status_code == 401
    headers = {"Authorization": f"Bearer {served.write_key}"}
    answer = httpx.get(f"{served.address}/v1/refusals", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    headers = {"Authorization": f"Bearer {served.read_key}"}
    told = httpx.get(f"{served.address}/v1/refusals", headers=headers).json()["refusals"]
    assert told[-1]["code"] == "invalid_write_key"
    assert served.topic.new() == []


def test_a_write_key_sends_as_many_requests_as_it_may(served: Served) -> None:
    answers = [post(served, {"batch": [track(number)]}, auth=(served.slow_key, "")) for number in range(12)]
    taken = [answer.status_code == 200 for answer in answers]
    assert taken[0]
    late = next(answer for answer in answers if answer.status_code != 200)
    assert (late.status_code, late.json()["code"]) == (429, "too_many_requests")
    assert int(late.headers["retry-after"]) >= 1
    assert len(served.topic.new()) == sum(taken), "what is refused is not half taken"


def test_nothing_that_is_told_about_requests_names_anybody(served: Served) -> None:
    who = "secret-person@example.org"
    assert post(served, {"batch": [track(1, userId=who), track(2, userId=who, timestamp=who)]}).status_code == 200
    assert post(served, {"type": who, "userId": who}).status_code == 400
    assert post(served, b"{}", f"/v1/{who}").status_code == 404
    assert post(served, {"batch": [track(3)]}, auth=(f"opk_{who}", "")).status_code == 401
    served.topic.new()
    headers = {"Authorization": f"Bearer {served.read_key}"}
    told = [httpx.get(served.address + path, headers=headers).text for path in ("/metrics", "/v1/refusals")]
    told += [log.read_text() for log in served.directory.glob("serve-*.log")]
    assert len(told) == 3
    assert told[-1], "the service has a log"
    for text in told:
        assert "secret-person" not in text
        assert served.write_key.rpartition("_")[2] not in text
        assert served.read_key.rpartition("_")[2] not in text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["batch", "type", "userId", "anonymousId", "timestamp", "sentAt", "writeKey", "x"]),
                    inner | st.sampled_from(["track", "identify", "2026-01-01", "9999-12-31T23:59:59Z", "0001-01-01"]),
                    max_size=6,
                )
            ),
            max_leaves=30,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    encoding=st.sampled_from(["", "gzip", "deflate", "identity", "zstd"]),
    origin=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=8),
    path=st.sampled_from(["/v1/batch", "/v1/t", "/v1/identify", "/beacon/v1/batch", "/api/s/track"]),
)
def test_no_bytes_make_the_service_fail(served: Served, body: bytes, encoding: str, origin: str, path: str) -> None:
    headers = {"Content-Encoding": encoding.encode(), "Origin": origin.strip().encode("latin-1")}
    answer = post(served, body, path, headers=headers)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code >= 400:
        assert {"code", "message"} <= answer.json().keys()


def test_a_broker_that_is_away_is_ridden_out_then_refused(own_kafka: Broker, tmp_path: Path, topic_prefix: str) -> None:
    name = topic_prefix
    directory = write_project(tmp_path / name, name, own_kafka.bootstrap_servers)
    make_topic(own_kafka.bootstrap_servers, f"{name}.events")
    with serving(directory, "--ride", "2", "--only", "collector") as address:
        own_kafka.stop()
        try:
            answer = httpx.post(f"{address}/v1/batch", json={"batch": [track(1)]}, timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_stored")
            assert int(answer.headers["retry-after"]) > 0
        finally:
            own_kafka.start()
        again = [httpx.post(f"{address}/v1/batch", json={"batch": [track(2)]}, timeout=60) for _ in range(10)]
        assert again[-1].status_code == 200, again[-1].text
    topic = Topic(own_kafka.bootstrap_servers, f"{name}.events")
    assert "m2" in ids(topic.new())
    topic.close()


def test_without_its_topic_it_is_not_ready_and_takes_nothing(kafka: Kafka, tmp_path: Path) -> None:
    directory = write_project(tmp_path / "topicless", "topicless", kafka.bootstrap_servers)
    with serving(directory, ready=False) as address:
        assert httpx.get(f"{address}/readyz").status_code == 503
        answer = httpx.post(f"{address}/v1/batch", json={"batch": [track(1)]})
        assert (answer.status_code, answer.json()["code"]) == (503, "no_topic")
