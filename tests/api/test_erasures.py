"""A person is forgotten over HTTP: the real service, job and broker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.keys import KEY_FILE, make_key, write_keys
from api.schemas import ErasureAnswer
from opportune.client import CallFailed, Client
from opportune.clock import wall_clock_ms
from opportune.event import iso_text
from tests.api.serving import make_topic, serving
from tests.api.test_lookups import write_project
from tests.crash.running import ROOT, running_job, until
from tests.kafka.broker import Kafka


@pytest.mark.timeout(180)
def test_whoever_is_forgotten_is_not_found_and_rows_do_not_bring_them_back(
    kafka: Kafka, tmp_path: Path, topic_prefix: str
) -> None:
    directory = write_project(tmp_path / topic_prefix, topic_prefix, kafka.bootstrap_servers)
    scopes = ("read:profiles", "read:audiences", "erase", "write:events")
    made = {scope: make_key("test", (scope,), "2026-01-01T00:00:00.000Z") for scope in scopes}
    write_keys(directory / KEY_FILE, tuple(key for key, _ in made.values()))
    write_key = made["write:events"][1]
    make_topic(kafka.bootstrap_servers, f"{topic_prefix}.events")
    with (
        serving(directory, "--log-level", "INFO", ready=False) as address,
        running_job(directory, kafka.bootstrap_servers) as job,
    ):
        job.start()
        job.wait_running()
        look = Client(address, made["read:profiles"][1], attempts=60)
        erase = Client(address, made["erase"][1])
        bought = {"type": "track", "event": "Bought", "messageId": "1", "timestamp": iso_text(wall_clock_ms())}
        write(address, write_key, {**bought, "userId": "ada", "anonymousId": "a-1"})
        until(lambda: look.person("anonymous_id:a-1"), "the person is known by both identifiers")
        assert look.is_member("user_id:row", "free")

        with pytest.raises(CallFailed, match="no_scope"):
            Client(address, made["read:profiles"][1]).forget("user_id:ada")
        refused = httpx.delete(f"{address}/v1/profiles/user_id:ada")
        assert (refused.status_code, refused.json()["type"]) == (401, "urn:opportune:problem:no_key")
        for path in ("user_id:null", "user_id:%20", "nonsense"):
            assert called(address, made["erase"][1], "DELETE", f"/v1/profiles/{path}").status_code == 400
        assert called(address, made["erase"][1], "GET", "/v1/erasures/none").json()["status"] == 404

        asked = called(address, made["erase"][1], "DELETE", "/v1/profiles/anonymous_id:a-1")
        assert asked.status_code == 202
        answer = ErasureAnswer.model_validate(asked.json())
        assert asked.headers["location"] == f"/v1/erasures/{answer.request}"
        others = erase.forget("user_id:row", "user_id:never/seen")
        until(lambda: erase.erasure(answer.request).state == "complete", "the person is forgotten", 30)
        until(lambda: erase.erasure(others.request).state == "complete", "so are the others", 30)
        assert (erase.erasure(answer.request).profiles, erase.erasure(others.request).profiles) == (1, 1)
        assert look.people(["user_id:ada", "anonymous_id:a-1", "user_id:row", "user_id:never/seen"]) == [None] * 4
        assert not called(address, made["read:audiences"][1], "GET", "/v1/audiences/free/members").text

        # Their rows change, and come into force; they are not people of ours any more.
        rows = ("ada,free", "row,free", "new,free", "row2,free")
        header = (directory / "people.csv").read_text().splitlines()[0]
        cells = "," * (header.count(",") - 1)
        (directory / "people.csv").write_text("\n".join([header, *(row + cells for row in rows), ""]))
        command = [sys.executable, "-m", "opportune.cli.main", "warehouse", "refresh", str(directory), "--unguarded"]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
        until(lambda: look.person("user_id:new"), "the new rows are in force", 60)
        assert look.people(["user_id:ada", "user_id:row"]) == [None, None]

        write(address, write_key, {**bought, "userId": "ada", "messageId": "2", "timestamp": iso_text(wall_clock_ms())})
        again = until(lambda: look.person("user_id:ada"), "a newer event is of somebody new")
        assert again.identifiers == {"user_id": ["ada"]}
        assert {one.audience for one in again.memberships} == {"active"}, "the old row stays out"
        assert job.terminate()[0] == 0

        # A state made anew from the topics, with the rows as they are.
        shutil.rmtree(job.state)
        job.start()
        job.wait_running()
        until(lambda: look.person("user_id:new"), "the rows are in force")
        found = until(lambda: look.person("user_id:ada"), "the newer event is read again")
        assert found.profile_id == again.profile_id
        assert "free" not in {one.audience for one in found.memberships}
        assert look.people(["user_id:row", "anonymous_id:a-1"]) == [None, None]
        assert job.terminate()[0] == 0


def called(address: str, key: str, method: str, path: str) -> httpx.Response:
    return httpx.request(method, address + path, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def write(address: str, key: str, message: dict[str, Any]) -> None:
    answer = httpx.post(f"{address}/v1/batch", json={"batch": [message]}, headers={"X-Write-Key": key}, timeout=30)
    assert answer.json() == {"success": True}, answer.text
