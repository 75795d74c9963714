"""From the collector through Kafka and the job to the answer of a look-up, with real processes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest

from api.keys import KEY_FILE, make_key, write_keys
from api.schemas import (
    AudienceAnswer,
    AudiencesAnswer,
    CollectionsAnswer,
    ExplanationAnswer,
    LookupsAnswer,
    MembershipsAnswer,
    OneMembershipAnswer,
    ProfileAnswer,
    RowAnswer,
    RowsAnswer,
)
from opportune.client import CallFailed, Client
from opportune.clock import wall_clock_ms
from opportune.errors import ReadRefused
from opportune.event import instant_ms, iso_text
from tests.api.serving import make_topic, serving
from tests.crash.running import running_job, until
from tests.kafka.broker import Kafka

WITHIN_MS = 10_000


def write_project(directory: Path, name: str, bootstrap_servers: str) -> Path:
    (directory / "audiences").mkdir(parents=True)
    (directory / "opportune.yml").write_text(
        f"name: {name}\nkafka: {{bootstrap_servers: '{bootstrap_servers}'}}\nclock: {{skew: 50 ms}}\n"
        "topics: {partitions: 4, retention: ever}\nstate: {shards: 2}\nepoch: 200 ms\n"
    )
    (directory / "audiences" / "a.yml").write_text(
        "name: active\nwhen: {event: Bought, within: 10 seconds}\n---\n"
        "name: gone\nwhen:\n  all: [{event: Bought}]\n  none: [{event: Bought, within: 10 seconds}]\n---\n"
        "name: french\nwhen: {trait: locale, is: fr}\n---\nname: free\nwhen: {attribute: plan, is: free}\n"
    )
    (directory / "warehouse.yml").write_text(
        "tables:\n  people: {source: people.csv, key: user_id, columns: {plan: string, city: string}, indexes: [city]}\n"
    )
    (directory / "traits").mkdir()
    (directory / "traits" / "t.yml").write_text("- {name: buys, event: Bought, count: true}\n")
    (directory / "people.csv").write_text("user_id,plan,city\nada,free,Paris\nrow,free,Paris\nbob,paid,Rome\n")
    return directory


def send(address: str, *messages: dict[str, Any]) -> None:
    answer = httpx.post(f"{address}/v1/batch", json={"batch": list(messages)}, timeout=30)
    assert answer.json() == {"success": True}, answer.text


def audiences(address: str, identifier: str, **params: Any) -> dict[str, Any]:
    answer = httpx.get(f"{address}/v1/profiles/{identifier}", params=params, timeout=30)
    found: dict[str, Any] = answer.json()
    return found | {"_status": answer.status_code, "_names": {one["audience"] for one in found.get("memberships", [])}}


def test_an_answer_is_true_at_the_instant_that_it_says(kafka: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    name = topic_prefix
    directory = write_project(tmp_path / name, name, kafka.bootstrap_servers)
    make_topic(kafka.bootstrap_servers, f"{name}.events")
    with serving(directory, "--log-level", "INFO", ready=False) as address:
        refused = httpx.get(f"{address}/v1/profiles/user_id:ada")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:opportune:problem:not_ready")
        assert "retry-after" in refused.headers
        with running_job(directory, kafka.bootstrap_servers) as job:
            job.start()
            job.wait_running()
            until(lambda: httpx.get(f"{address}/readyz").status_code == 200, "the service is ready")
            assert audiences(address, "user_id:row")["_names"] == {"free"}
            assert audiences(address, "user_id:nobody")["_status"] == 404
            now = wall_clock_ms()
            bought = {"type": "track", "event": "Bought", "userId": "ada", "messageId": "1", "timestamp": iso_text(now)}
            traits = {"type": "identify", "userId": "ada", "messageId": "2", "traits": {"locale": "fr"}}
            other = {"type": "track", "event": "Seen", "anonymousId": "x", "messageId": "3"}
            send(address, bought, traits, other)
            until(lambda: "active" in audiences(address, "user_id:ada")["_names"], "the event is seen")
            until(lambda: audiences(address, "anonymous_id:x")["_status"] == 200, "the other person is there")
            assert audiences(address, "anonymous_id:x")["_names"] == set()
            ada = audiences(address, "user_id:ada")
            assert ada["traits"] == {"locale": "fr"}
            assert ada["attributes"] == {"people.plan": "free"}
            assert ada["identifiers"] == {"user_id": ["ada"]}
            assert ada["computed_traits"] == {"buys": 1}
            ends = now + WITHIN_MS
            check_times(address, ends)
            check_all_answers(address)
            while True:
                seen = audiences(address, "user_id:ada")
                active = instant_ms(seen["freshness"]["as_of"]) < ends
                assert seen["_names"] == {"french", "free", "active" if active else "gone"}, seen
                if not active:
                    break
            (since,) = [one["since"] for one in seen["memberships"] if one["audience"] == "gone"]
            assert instant_ms(since) == ends
            fresh = audiences(address, "user_id:ada", min_freshness_ms=1_500)
            assert fresh["_status"] == 200
            assert fresh["freshness"]["age_ms"] <= 1_600
            send(address, bought | {"messageId": "4", "timestamp": iso_text(wall_clock_ms())})
            until(lambda: "active" in audiences(address, "user_id:ada")["_names"], "she is back")
            send(address, traits | {"messageId": "5", "anonymousId": "x"})
            until(lambda: audiences(address, "anonymous_id:x").get("profile_id") == ada["profile_id"], "x is ada")
            assert audiences(address, "anonymous_id:x")["traits"] == {"locale": "fr"}
        # The job is killed: what was true stays the answer, and says how old it is.
        old = audiences(address, "user_id:ada")
        assert "active" in old["_names"] or instant_ms(old["freshness"]["as_of"]) >= ends
        until(lambda: audiences(address, "user_id:ada")["freshness"]["age_ms"] > 4_000, "time passes")
        assert audiences(address, "user_id:ada")["_names"] == old["_names"]
        late = httpx.get(f"{address}/v1/profiles/user_id:ada", params={"min_freshness_ms": 100}, timeout=30)
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")


def check_times(address: str, ends: int) -> None:
    """When time alone will end it, and why; and what is asked to be no older than something."""
    ada = audiences(address, "user_id:ada")
    assert {one["audience"]: one.get("until") for one in ada["memberships"]} == {
        "active": iso_text(ends), "french": None, "free": None,
    }  # fmt: skip
    one = httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/active").json()
    assert one["until"] == iso_text(ends)
    why = httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/active/explanation").json()
    ExplanationAnswer.model_validate(why, strict=True)
    assert (why["member"], why["next_change"], why["condition"]["value"]) == (True, iso_text(ends), 1)
    why = httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/gone/explanation").json()
    assert (why["member"], why["next_change"]) == (False, iso_text(ends))
    assert httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/none/explanation").status_code == 404
    assert httpx.get(f"{address}/v1/profiles/user_id:no/audiences/active/explanation").status_code == 404
    place = ada["freshness"]["position"]
    shard, _, write = place.partition("-")
    assert audiences(address, "user_id:ada", min_position=place)["_status"] == 200
    later = httpx.get(f"{address}/v1/profiles/user_id:ada", params={"min_position": f"{shard}-{int(write) + 10**9}"})
    assert (later.status_code, later.headers["retry-after"]) == (503, "1")
    for wrong in ("x", "2-1", "0-1.", ""):
        status = audiences(address, "user_id:ada", min_position=wrong)["_status"]
        assert status == (400 if wrong else 200), wrong
    assert audiences(address, "user_id:ada", min_version=1)["_status"] == 200
    assert audiences(address, "user_id:ada", min_version=(1 << 62))["_status"] == 503
    only = audiences(address, "user_id:ada", fields="traits")
    assert {"memberships", "attributes", "computed_traits"}.isdisjoint(only)
    assert audiences(address, "user_id:ada", fields="traits,none")["_status"] == 400


def check_all_answers(address: str) -> None:
    """Every other form of the same truth."""
    ProfileAnswer.model_validate(httpx.get(f"{address}/v1/profiles/user_id:ada").json(), strict=True)
    one = httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/french").json()
    OneMembershipAnswer.model_validate(one, strict=True)
    assert one["member"] is True
    assert httpx.get(f"{address}/v1/profiles/user_id:row/audiences/french").json()["member"] is False
    assert httpx.get(f"{address}/v1/profiles/user_id:row/audiences/none").status_code == 404
    assert httpx.get(f"{address}/v1/profiles/ada").status_code == 400
    blocked = httpx.get(f"{address}/v1/profiles/user_id:NULL")
    assert (blocked.status_code, blocked.json()["type"]) == (400, "urn:opportune:problem:blocked_identifier")
    MembershipsAnswer.model_validate(httpx.get(f"{address}/v1/profiles/user_id:row/audiences").json(), strict=True)
    listed = httpx.get(f"{address}/v1/profiles/user_id:row/audiences").json()["memberships"]
    assert [each["audience"] for each in listed] == ["free"]
    wanted = {"identifiers": ["user_id:row", "user_id:no/body", "user_id:ada"], "fields": ["traits"]}
    answered = httpx.post(f"{address}/v1/lookups", json=wanted).json()
    results = LookupsAnswer.model_validate(answered, strict=True).model_dump()["results"]
    assert [each["found"] for each in results] == [True, False, True]
    assert results[2]["profile"]["traits"] == {"locale": "fr"}
    assert "memberships" not in answered["results"][2]["profile"]
    too_many = httpx.post(f"{address}/v1/lookups", json={"identifiers": ["user_id:a"] * 101})
    assert too_many.status_code == 400
    check_client(address)
    check_audiences(address)
    check_members(address)
    check_collections(address)


def check_audiences(address: str) -> None:
    """What the audiences are."""
    listed = httpx.get(f"{address}/v1/audiences").json()
    AudiencesAnswer.model_validate(listed, strict=True)
    assert [each["name"] for each in listed["audiences"]] == ["active", "free", "french", "gone"]
    assert {each["name"]: each["members"] for each in listed["audiences"]}["free"] == 2
    one = httpx.get(f"{address}/v1/audiences/french").json()
    AudienceAnswer.model_validate(one, strict=True)
    assert (one["definition"]["asks"], one["plan"]["evaluated_at"]) == ("the trait locale is fr", ["identify"])
    assert one["last_hour"]["entered"] == 1
    assert httpx.get(f"{address}/v1/audiences/none").status_code == 404


def check_members(address: str) -> None:
    """The same list in every format, whole, in pieces and from the middle."""
    where = f"{address}/v1/audiences/free/members"
    answer = httpx.get(where)
    members = [json.loads(line) for line in answer.text.splitlines()]
    assert {each["identifiers"][0] for each in members} == {"user_id:ada", "user_id:row"}
    assert [each["profile_id"] for each in members] == sorted(each["profile_id"] for each in members)
    assert answer.headers["opportune-as-of"].startswith("0=")
    read: dict[str, Callable[[bytes], Any]] = {
        "text/csv": lambda body: [
            {**row, "identifiers": row["identifiers"].split()} for row in csv.DictReader(io.StringIO(body.decode()))
        ],
        "application/vnd.apache.arrow.stream": lambda body: rows_of(pa.ipc.open_stream(body).read_all()),
        "application/vnd.apache.parquet": lambda body: rows_of(pa.parquet.read_table(io.BytesIO(body))),
    }
    for accept, rows in read.items():
        assert rows(httpx.get(where, headers={"Accept": accept}).content) == members, accept
    assert httpx.get(where, headers={"Accept": "image/png"}).status_code == 406
    assert httpx.get(where, params={"fields": "profile_id"}).text.splitlines()[0].count(":") == 1
    first = httpx.get(where, params={"limit": 1})
    assert [json.loads(line) for line in first.text.splitlines()] == members[:1]
    for cursor in (
        first.headers["opportune-cursor"],
        f"{answer.headers['opportune-cursor']}.{members[0]['profile_id']}",
    ):
        rest = httpx.get(where, params={"limit": 5, "cursor": cursor})
        assert [json.loads(line) for line in rest.text.splitlines()] == members[1:]
        assert "opportune-cursor" not in rest.headers
        assert rest.headers["opportune-as-of"] in (first.headers["opportune-as-of"], answer.headers["opportune-as-of"])
    for params, status in (
        ({"cursor": "x"}, 400),
        ({"cursor": "A" * 12}, 410),
        ({"fields": "x"}, 400),
        ({"limit": 0}, 422),
    ):
        assert httpx.get(where, params=params).status_code == status, params


def check_collections(address: str) -> None:
    """Warehouse rows by key and by an indexed column."""
    where = f"{address}/v1/collections"
    listed = httpx.get(where).json()
    CollectionsAnswer.model_validate(listed, strict=True)
    (table,) = listed["collections"]
    assert (table["name"], table["rows"], table["indexes"]) == ("people", 3, ["city"])
    assert httpx.get(f"{where}/people").json() == table
    row = httpx.get(f"{where}/people/bob").json()
    RowAnswer.model_validate(row, strict=True)
    assert (row["key"], row["row"]) == ("bob", {"plan": "paid", "city": "Rome"})
    page = httpx.get(f"{where}/people", params={"city": "Paris", "limit": 1}).json()
    RowsAnswer.model_validate(page, strict=True)
    rest = httpx.get(f"{where}/people", params={"city": "Paris", "limit": 1, "cursor": page["next"]}).json()
    assert {one["key"] for one in page["rows"] + rest["rows"]} == {"ada", "row"}
    assert "next" not in rest
    assert httpx.get(f"{where}/people", params={"city": "Oslo"}).json()["rows"] == []
    for path, status in (
        ("/none", 404), ("/none/bob", 404), ("/people/zoe", 404), ("/people/null", 400), ("/people?plan=free", 400),
        ("/people?city=Rome&city=Oslo", 400), ("/people?city=Rome&cursor=x", 400), ("/people?city=Rome&limit=0", 422),
        (f"/people?city=Rome&cursor={'0' * 16}-0", 410),
    ):  # fmt: skip
        assert httpx.get(where + path).status_code == status, path


def rows_of(table: Any) -> list[dict[str, Any]]:
    return [{**row, "since": iso_text(int(row["since"].timestamp() * 1000))} for row in table.to_pylist()]


def check_client_more(client: Client) -> None:
    why = client.explanation("user_id:row", "french")
    assert why is not None
    assert (why.member, why.condition.missing) == (False, "a value that is fr")
    assert client.explanation("user_id:nobody", "french") is None
    assert [one.name for one in client.audiences()] == ["active", "free", "french", "gone"]
    assert client.audience("french").definition["asks"] == "the trait locale is fr"
    assert {one.identifiers[0] for one in client.members("free")} == {"user_id:ada", "user_id:row"}
    row = client.row("people", "bob")
    assert row is not None
    assert row.row == {"plan": "paid", "city": "Rome"}
    assert client.row("people", "zoe") is None
    page = client.rows("people", "city", "Paris", limit=1)
    rest = client.rows("people", "city", "Paris", limit=1, cursor=page.next)
    assert {one.key for one in page.rows + rest.rows} == {"ada", "row"}
    assert rest.next == ""
    (topic,) = {stream_topic(client)}
    changes = client.changes(["french", "free"], ["entered"], position=f"{topic}.0.0.0.0")
    told = {(one.audience, one.identifiers["user_id"][0]) for one in islice(changes, 3)}
    assert told == {("french", "ada"), ("free", "ada"), ("free", "row")}
    with pytest.raises(CallFailed) as gone:
        next(iter(client.changes(position="00000000.0.0.0.0")))
    assert (gone.value.status, gone.value.kind) == (410, "position_gone")


def stream_topic(client: Client) -> str:
    """What the places in the memberships topic begin with."""
    with httpx.stream("GET", f"{client._address}/v1/changes", timeout=30) as answer:
        return next(line[4:12] for line in answer.iter_lines() if line.startswith("id: "))


def check_client(address: str) -> None:
    """The same through the client."""
    client = Client(address)
    row, nobody = client.people(["user_id:row", "user_id:no/body"], ["memberships"])
    assert row is not None
    assert ([one.audience for one in row.memberships], nobody) == (["free"], None)
    ada = client.person("user_id:ada", min_freshness_ms=5_000)
    assert ada is not None
    assert (ada.traits, ada.identifiers) == ({"locale": "fr"}, {"user_id": ["ada"]})
    assert client.is_member("user_id:ada", "french")
    assert not client.is_member("user_id:no/body", "french")
    placed = client.person("user_id:ada", ["traits"], min_position=ada.freshness.position)
    assert placed is not None
    assert (placed.traits, placed.memberships) == ({"locale": "fr"}, [])
    check_client_more(client)
    assert not client.is_member("user_id:row", "french")
    assert not client.is_member("user_id:nobody", "french")
    with pytest.raises(CallFailed, match="no_such_audience"):
        client.is_member("user_id:ada", "none")
    pauses: list[float] = []
    with pytest.raises(ReadRefused, match="behind"):
        Client(address, pause=pauses.append).person("user_id:ada", min_freshness_ms=1)
    assert pauses == [1.0, 1.0]


def test_scopes_are_asked_for(kafka: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    name = topic_prefix
    directory = write_project(tmp_path / name, name, kafka.bootstrap_servers)
    people, people_key = make_key("app", ("read:profiles",), "2026-01-01T00:00:00Z")
    lists, lists_key = make_key("crm", ("read:audiences",), "2026-01-01T00:00:00Z", per_second=1)
    write_keys(directory / KEY_FILE, (people, lists))
    with serving(directory, "--only", "lookups", ready=False) as address:

        def status(path: str, key: str) -> int:
            return httpx.get(address + path, headers={"X-Api-Key": key}).status_code

        assert status("/v1/audiences", "") == 401
        assert status("/v1/audiences", people_key) == 403
        assert status("/v1/profiles/user_id:ada", lists_key) == 403
        assert status("/v1/profiles/user_id:ada", people_key) == 503
        one = "/v1/profiles/user_id:ada/audiences/french"
        assert [status(one, key) for key in ("", "x", lists_key, people_key)] == [401, 401, 403, 503]
        for path in ("/v1/changes", "/v1/audiences/free/members", "/v1/audiences/free"):
            assert (status(path, ""), status(path, people_key)) == (401, 403), path
        for path in (
            "/v1/collections",
            "/v1/collections/people/ada",
            "/v1/profiles/user_id:a/audiences/free/explanation",
        ):
            assert (status(path, ""), status(path, lists_key)) == (401, 403), path
        assert status("/v1/audiences", lists_key) == 200
        assert 429 in [status("/v1/audiences", lists_key) for _ in range(5)]
        document = httpx.get(f"{address}/openapi.json").json()
        assert "/v1/lookups" in document["paths"]


@pytest.mark.parametrize(
    "path", ["/v1/profiles/%00", "/v1/profiles/user_id:%ff%fe", "/v1/profiles/user_id:" + "x" * 2_000]
)
def test_odd_identifiers_are_no_failure(kafka: Kafka, tmp_path: Path, path: str) -> None:
    directory = write_project(tmp_path / "odd", "odd", kafka.bootstrap_servers)
    with serving(directory, "--only", "lookups", ready=False) as address:
        assert httpx.get(address + path).status_code in (400, 404, 503)
