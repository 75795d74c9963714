from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from opportune.cli.main import main
from opportune.cli.replay_counts import POINTS_MAX, Curve
from opportune.event import iso_text
from tests.oracle.builders import DAY_0, track

AUDIENCE = "name: a\nwhen: {event: A, within: 1 minute}\n"
TABLES = "tables: {customers: {source: customers.csv, key: user_id, columns: {plan: string}}}\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with an audience and a file of events."""
    (tmp_path / "audiences").mkdir()
    (tmp_path / "opportune.yml").write_text("name: shop\n")
    (tmp_path / "audiences" / "a.yml").write_text(AUDIENCE)
    lines = [track("A", 0), b"", track("A", 5_000, "bob"), b"{", track("B", 61_000, "cid")]
    (tmp_path / "events.jsonl").write_bytes(b"\r\n".join(lines) + b"\n")
    return tmp_path


def run(directory: Path, *arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(main, ["replay", str(directory), *arguments], **more)


def test_changes_go_to_standard_output_and_the_summary_to_standard_error(shop: Path) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"))
    assert result.exit_code == 0, result.output
    changes = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["at"], one["change"], one["cause"]) for one in changes] == [
        ("2023-11-14T22:13:20.000Z", "entered", "event"),
        ("2023-11-14T22:13:25.000Z", "entered", "event"),
        ("2023-11-14T22:14:20.000Z", "exited", "time"),
    ]
    assert "events 4, applied 2, duplicates 0, refused: not_json 1" in result.stderr
    assert "profiles 3" in result.stderr
    assert "a: entered 2, exited 1, members at the end 1" in result.stderr


def test_files_are_read_one_after_the_other_and_standard_input_too(shop: Path) -> None:
    first = shop / "first.jsonl"
    first.write_bytes(track("A", 0))
    result = run(shop, "--events", str(first), "--events", "-", input=track("B", 60_000))
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["change"] for line in result.stdout.splitlines()] == ["entered", "exited"]


def test_until_ends_it_and_out_takes_the_changes(shop: Path) -> None:
    out = shop / "changes.jsonl"
    until = "2023-11-14T22:13:22Z"
    result = run(shop, "--events", str(shop / "events.jsonl"), "--until", until, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert len(out.read_text().splitlines()) == 1
    assert "after --until 2" in result.stderr


def test_a_warehouse_file_stands_in_for_the_source(shop: Path) -> None:
    (shop / "warehouse.yml").write_text(TABLES)
    (shop / "audiences" / "b.yml").write_text("name: b\nwhen: {attribute: plan, is: free}\n")
    (shop / "customers.csv").write_text("user_id,plan\nann,paid\n")
    other = shop / "other.csv"
    other.write_text("user_id,plan\nann,free\nzoe,free\n")
    result = run(shop, "--events", str(shop / "events.jsonl"), "--warehouse", f"customers={other}")
    assert result.exit_code == 0, result.output
    assert "b: entered 2, exited 0, members at the end 2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--until", "soon"], 2, "not an ISO 8601 instant"),
        (["--warehouse", "nothing=x.csv"], 2, "known table"),
        (["--warehouse", "customers"], 2, "TABLE=FILE"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_wrong_usage(shop: Path, arguments: list[str], code: int, says: str) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"), *arguments)
    assert result.exit_code == code
    assert says in result.stderr


def test_files_and_topics_do_not_mix(shop: Path) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"), "--from", "2026-01-01")
    assert result.exit_code == 2
    assert "for topics" in result.stderr


def test_a_project_that_is_wrong_is_told_with_its_places(shop: Path) -> None:
    (shop / "audiences" / "a.yml").write_text("name: a\nwhen: {evnt: A}\n")
    result = run(shop, "--events", str(shop / "events.jsonl"))
    assert result.exit_code == 1
    assert "a.yml:2:" in result.stderr


def test_a_file_that_is_not_there_is_a_sentence(shop: Path) -> None:
    result = run(shop, "--events", str(shop / "none.jsonl"))
    assert result.exit_code == 78
    assert "none.jsonl" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("out", ["missing/changes.jsonl", "."])
def test_an_output_that_cannot_be_written_is_a_sentence(shop: Path, out: str) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"), "--out", str(shop / out))
    assert result.exit_code == 78
    assert "cannot write" in result.stderr


def test_a_directory_instead_of_events_is_a_sentence(shop: Path) -> None:
    result = run(shop, "--events", str(shop))
    assert result.exit_code == 78
    assert "cannot read the events" in result.stderr


def test_a_table_may_come_into_force_later(shop: Path) -> None:
    (shop / "warehouse.yml").write_text(TABLES)
    (shop / "audiences" / "b.yml").write_text("name: b\nwhen: {attribute: plan, is: free}\n")
    (shop / "customers.csv").write_text("user_id,plan\nann,paid\n")
    (shop / "next.csv").write_text("user_id,plan\nann,free\nzoe,free\n")
    later = f"customers={shop / 'next.csv'}@2023-11-14T22:13:23Z"
    result = run(shop, "--events", str(shop / "events.jsonl"), "--warehouse", later)
    assert result.exit_code == 0, result.output
    changes = [json.loads(line) for line in result.stdout.splitlines()]
    entered = [(one["at"], one["identifiers"]["user_id"], one["cause"]) for one in changes if one["audience"] == "b"]
    assert sorted(entered) == [
        ("2023-11-14T22:13:23.000Z", ["ann"], "attribute"),
        ("2023-11-14T22:13:23.000Z", ["zoe"], "attribute"),
    ]


@pytest.mark.parametrize("at_ms", [-1, 0, 1, 5_000, 60_999, 61_000, 61_001])
def test_a_table_comes_into_force_at_its_instant_and_not_after_the_end(shop: Path, at_ms: int) -> None:
    (shop / "warehouse.yml").write_text(TABLES)
    (shop / "audiences" / "a.yml").write_text("name: b\nwhen: {attribute: plan, is: free}\n")
    (shop / "customers.csv").write_text("user_id,plan\nann,paid\n")
    (shop / "next.csv").write_text("user_id,plan\nann,free\n")
    at = iso_text(DAY_0 + at_ms)
    result = run(shop, "--events", str(shop / "events.jsonl"), "--warehouse", f"customers={shop / 'next.csv'}@{at}")
    found = [json.loads(line)["at"] for line in result.stdout.splitlines()]
    assert found == ([at] if at_ms <= 61_000 else [])


def test_members_at_the_end_instead_of_changes(shop: Path) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"), "--members", "a")
    assert (result.exit_code, result.stdout) == (0, "user_id:bob\n")
    assert run(shop, "--events", "-", "--members", "b").exit_code == 2


def test_the_most_members_are_those_at_one_instant(shop: Path) -> None:
    (shop / "events.jsonl").write_bytes(b"\n".join([track("A", 0), track("A", 0, "bob"), track("A", 60_000, "cid")]))
    # Two leave in the millisecond in which one comes.
    assert "members at the end 1, at most 2" in run(shop, "--events", str(shop / "events.jsonl")).stderr


@pytest.mark.parametrize("name", ["p.png", "p.svg"])
def test_the_picture_is_drawn(shop: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    result = run(shop, "--events", str(shop / "events.jsonl"), "--plot", str(shop / name))
    assert result.exit_code == 0, result.output
    drawn = (shop / name).read_bytes()
    assert drawn[:4] == b"\x89PNG" if name.endswith("png") else b"<svg" in drawn[:600]


def test_a_picture_of_an_unknown_kind_is_refused_before_the_work(shop: Path) -> None:
    result = run(shop, "--events", str(shop / "events.jsonl"), "--plot", "p.bmp")
    assert (result.exit_code, "ends with .png" in result.stderr) == (2, True)


def test_a_curve_has_a_bounded_number_of_points() -> None:
    curve = Curve()
    for number in range(100_000):
        curve.put(1_000_000 + number * 17, number)
    instants, numbers = curve.line()
    assert POINTS_MAX / 2 <= len(instants) <= POINTS_MAX
    assert numbers[-1] == 99_999
    assert instants == sorted(instants)


@pytest.mark.parametrize(
    "when",
    [
        "{event: A, within: day}",
        "{event: A, within: month}",
        '{during: {days: [fri], from: "22:00", to: "02:00"}}',
        "{event: A, within: 3 years}",
    ],
)
def test_an_event_of_the_last_day_of_all_is_replayed_and_explained(tmp_path: Path, when: str) -> None:
    """A date that stands for never in some system: it neither hangs nor ends anything."""
    (tmp_path / "opportune.yml").write_text("name: shop\ntimezone: Australia/Sydney\n")
    (tmp_path / "audiences").mkdir()
    (tmp_path / "audiences" / "a.yml").write_text(f"name: a\nwhen: {when}\n")
    events = tmp_path / "events.jsonl"
    events.write_bytes(
        b'{"type":"track","event":"A","userId":"u","timestamp":"9999-12-31T12:00:00Z"}\n'
        b'{"type":"track","event":"A","userId":"u","timestamp":"9999-12-31T23:59:59.999Z"}\n'
    )
    for command in (["replay", str(tmp_path)], ["explain", str(tmp_path), "u"]):
        done = CliRunner().invoke(main, [*command, "--events", str(events)])
        assert done.exit_code == 0, done.output
