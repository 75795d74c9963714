"""Every request that real clients were seen to send, sent again: what they mean comes to the topic."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from opportune.event import instant_ms
from opportune.identity import profile_id, shard_of
from tests.api.conftest import Served
from tests.api.serving import PARTITIONS, ids

RECORDED = os.environ.get("OPPORTUNE_RECORDED_CLIENTS", "")
FILES = sorted(Path(RECORDED).glob("*.json")) if RECORDED else []
MESSAGE_BYTES_MAX = 32_768

pytestmark = pytest.mark.skipif(not FILES, reason="OPPORTUNE_RECORDED_CLIENTS names no directory of recorded requests")


def requests_of(path: Path) -> list[dict[str, Any]]:
    scenarios = json.loads(path.read_text())["scenarios"].values()
    return [request for scenario in scenarios for request in scenario["requests"]]


def messages_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    body = request.get("json")
    return [] if body is None else body.get("batch", [body])


def send(client: httpx.Client, request: dict[str, Any], write_key: str) -> httpx.Response:
    """The request as it was, with our write key where theirs stood."""
    text = json.dumps({"headers": request["headers"], "query": request["query"], "path": request["path"]})
    place = json.loads(text.replace("WRITE_KEY", write_key))
    headers = {
        name: value
        for name, value in place["headers"].items()
        if name.lower() not in {"host", "content-length", "connection", "authorization", "x-write-key"}
    }
    if "basic_auth_decoded" in request:
        headers["Authorization"] = httpx.BasicAuth(write_key, "")._auth_header
    if any(name.lower() == "x-write-key" for name in request["headers"]):
        headers["X-Write-Key"] = f"{write_key}:secret"
    body = json.dumps(request["json"]).replace("WRITE_KEY", write_key).encode() if "json" in request else b""
    if request.get("gzip_on_wire"):
        body = gzip.compress(body)
    return client.request(request["method"], place["path"], params=place["query"], headers=headers, content=body)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_client_sends_is_taken(served: Served, path: Path) -> None:
    wanted: list[Any] = []
    with httpx.Client(base_url=served.address) as client:
        for request in requests_of(path):
            answer = send(client, request, served.write_key)
            small = [one for one in messages_of(request) if len(json.dumps(one)) <= MESSAGE_BYTES_MAX]
            if messages_of(request) and not small:
                assert answer.status_code == 400, answer.text
                assert {"code", "message"} <= answer.json().keys()
                continue
            assert answer.status_code == 200, f"{request['path']}: {answer.text}"
            wanted += [one["messageId"] for one in small]
            if "Origin" in request["headers"]:
                assert answer.headers["access-control-allow-origin"] == request["headers"]["Origin"]
            if request["method"] == "OPTIONS":
                asked = request["headers"]["Access-Control-Request-Headers"]
                assert answer.headers["access-control-allow-headers"] == asked
    found = served.topic.new()
    assert ids(found) == sorted(wanted)
    for one in found:
        assert one["source"] == "web"
        assert "writeKey" not in one
        strongest = ("user_id", one["userId"]) if one.get("userId") else ("anonymous_id", one["anonymousId"])
        assert one["_partition"] == shard_of(profile_id(*strongest), PARTITIONS)
        skew_ms = instant_ms(one["receivedAt"]) - instant_ms(one["sentAt"])
        assert instant_ms(one["timestamp"]) in {
            instant_ms(one["originalTimestamp"]) + skew_ms,
            instant_ms(one["receivedAt"]),
        }
