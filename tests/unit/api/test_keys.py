"""Keys: shown once, hashed, revoked while the service runs; and who may do what."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.allowance import Allowances
from api.keys import KEY_FILE, LOOK_MS, Keyring, make_key, read_keys
from opportune.cli.keys import keys
from opportune.cli.main import main
from opportune.cli.serve import refuse_open_door
from opportune.errors import ConfigurationError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(keys, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output.strip()


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


def test_a_key_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    text = run("make", str(tmp_path), "--name", "web", "--scope", "write:events")
    file = tmp_path / KEY_FILE
    assert text.rpartition("_")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = Keyring(file).find(text)
    assert key is not None
    assert (key.name, key.may("write:events"), key.may("read:profiles")) == ("web", True, False)
    assert key.id in run("list", str(tmp_path))


def test_a_running_service_notices_a_new_and_a_revoked_key(tmp_path: Path) -> None:
    clock = Time()
    ring = Keyring(tmp_path / KEY_FILE, clock)
    before = ring.guarded
    assert not before
    text = run("make", str(tmp_path), "--name", "app", "--scope", "read:profiles")
    clock.ms += LOOK_MS
    assert ring.guarded
    key = ring.find(text)
    assert key is not None
    run("revoke", str(tmp_path), "--id", key.id)
    clock.ms += LOOK_MS
    assert ring.find(text) is None
    assert ring.guarded
    (tmp_path / KEY_FILE).write_text("{")
    clock.ms += LOOK_MS
    assert ring.guarded
    assert ring.find(text) is None


@pytest.mark.parametrize("text", ["", "x", "opk_", "opk__", "opk_000000000000_1", "\ud800", "opk_ä_ö"])
def test_no_other_text_is_a_key(tmp_path: Path, text: str) -> None:
    run("make", str(tmp_path), "--name", "app", "--scope", "read:profiles")
    assert Keyring(tmp_path / KEY_FILE).find(text) is None


def test_a_right_id_with_another_secret_is_no_key(tmp_path: Path) -> None:
    text = run("make", str(tmp_path), "--name", "app", "--scope", "read:profiles")
    assert Keyring(tmp_path / KEY_FILE).find(text[:-1] + ("0" if text[-1] != "0" else "1")) is None


def test_a_name_that_is_in_force_is_made_twice_only_when_it_is_said(tmp_path: Path) -> None:
    make = ["make", str(tmp_path), "--name", "web", "--scope", "write:events"]
    first = run(*make)
    done = CliRunner().invoke(main, ["keys", *make])
    assert done.exit_code == 78
    number = read_keys(tmp_path / KEY_FILE)[0].id
    assert f"has a key named web in force ({number})" in done.output
    assert "--another" in done.output
    second = run(*make, "--another")
    assert second != first
    for key in read_keys(tmp_path / KEY_FILE):
        run("revoke", str(tmp_path), "--id", key.id)
    assert run(*make), "a name of revoked keys is free"
    assert [key.revoked is None for key in read_keys(tmp_path / KEY_FILE)] == [False, False, True]


def test_write_keys_can_do_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="stands alone"):
        make_key("web", ("write:events", "admin"), "2026-01-01T00:00:00Z")
    with pytest.raises(ConfigurationError, match="unknown scope"):
        make_key("web", ("write",), "2026-01-01T00:00:00Z")
    admin, _ = make_key("app", ("admin",), "2026-01-01T00:00:00Z")
    assert admin.may("read:profiles")
    assert not admin.may("write:events")
    assert read_keys(tmp_path / KEY_FILE) == ()


def test_a_key_makes_as_many_requests_as_it_may() -> None:
    clock = Time()
    allowances = Allowances(clock)
    key, _ = make_key("app", ("admin",), "2026-01-01T00:00:00Z", per_second=10)
    assert sum(not allowances.take(key) for _ in range(100)) == 10
    clock.ms += 500
    assert sum(not allowances.take(key) for _ in range(100)) == 5


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_without_keys_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigurationError, match="opportune keys make"):
        refuse_open_door(host, guarded=False)
    refuse_open_door(host, guarded=True)
    for here in ("127.0.0.1", "::1", "localhost"):
        refuse_open_door(here, guarded=False)
