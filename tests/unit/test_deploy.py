"""docker-compose.yml and deploy/: of the shape that compose reads, with commands that exist, and as closed as they say."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from opportune.cli.main import COMMANDS, main
from opportune.event import CALL_TYPES
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def words(service: dict[str, Any]) -> list[str]:
    """The arguments of ``opportune`` in a service's container."""
    return [*service.get("entrypoint", ["opportune"])[1:], *service["command"]]


def test_compose_reads_it() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert list(validator.iter_errors({"services": {"flow": {"imagee": "x"}}})), "a wrong file is noticed"


def test_it_brings_up_kafka_the_job_and_the_service() -> None:
    started = {name: words(SERVICES[name])[0] for name in OURS if "profiles" not in SERVICES[name]}
    assert started == {"flow": "run", "api": "serve"}
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:")
    for name in started:
        assert SERVICES[name]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
        servers = SERVICES[name]["environment"]["OPPORTUNE_KAFKA_BOOTSTRAP_SERVERS"]
        assert f"//{servers}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


@pytest.mark.parametrize("name", OURS)
def test_its_commands_are_ours(name: str) -> None:
    command, *arguments = words(SERVICES[name])
    assert command in COMMANDS
    found: Any = main.get_command(main.make_context("opportune", [command], resilient_parsing=True), command)
    if command == "keys":
        found, arguments = found.commands[arguments[0]], arguments[1:]
    # /project is a directory of the container.
    known = [str(ROOT) if word == "/project" else word for word in arguments]
    with found.make_context(command, known):
        pass


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "healthcheck" in service or "profiles" in service
    for volume in service["volumes"]:
        source = volume.rpartition("/")[0] if volume.endswith(":ro") else volume
        assert source.startswith("${OPPORTUNE_PROJECT") or volume.partition(":")[0] in COMPOSE["volumes"]
    if name in OURS:
        assert service["read_only"] is True
        assert service["user"] == "10001:10001"
        assert any(volume.endswith(":/project:ro") for volume in service["volumes"])


def test_the_image_runs_as_nobody_and_writes_where_volumes_are() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert final.index("USER") < final.index("ENTRYPOINT")
    (places,) = re.findall(r"^VOLUME (.*)$", final, re.MULTILINE)
    mounted = {volume.split(":")[1] for name in OURS for volume in SERVICES[name]["volumes"] if "PROJECT" not in volume}
    assert mounted == set(json.loads(places))


def test_the_image_is_made_of_what_is_here() -> None:
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in shlex.split(line)[:-1]
    }
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch("keys.json", pattern) for pattern in kept)


def test_the_page_of_operations_shows_the_commands_that_work() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    shown = re.findall(r"docker compose run --rm keys (.*?)(?:#|$)", page, re.MULTILINE)
    assert shown
    for line in shown:
        command, *arguments = [str(ROOT) if word == "/project" else word for word in shlex.split(line)]
        group: Any = main.get_command(main.make_context("opportune", ["keys"], resilient_parsing=True), "keys")
        with group.commands[command].make_context(command, arguments):
            pass
    (body,) = re.findall(r"curl -u KEY: \S+/v1/(\w+) ", page)
    assert body in CALL_TYPES
