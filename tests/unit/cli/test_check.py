from __future__ import annotations

import json
from pathlib import Path

import msgspec
from click.testing import CliRunner

from flows.routing import routing
from flows.succession import succeed
from opportune.audiences.loader import load_project
from opportune.audiences.plan import Plan
from opportune.audiences.plan_report import report
from opportune.cli.check import check
from state.positions import Reached
from state.rocks import RocksStore, shared_memory
from state.shard_identity import Expected, Identity, open_shard

ROOT = Path(__file__).resolve().parents[3]


def project(directory: Path, audience: str, **files: str) -> Path:
    for name, content in {"opportune.yml": "name: a\ntopics: {retention: ever}\n", **files}.items():
        (directory / name).write_text(content)
    (directory / "audiences").mkdir()
    (directory / "audiences" / "a.yml").write_text(audience)
    return directory


def test_a_right_project_has_a_summary() -> None:
    answer = CliRunner().invoke(check, [str(ROOT / "examples" / "shop")])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("shop: all right\n")
    assert "audiences" in answer.stdout
    assert answer.stderr == ""


def test_errors_have_place_line_caret_and_hint(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen:\n  event: X\n  witin: 10 minutes\n")
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr == (
        f"{directory}/audiences/a.yml:4:3: error: a condition on `event` has no key `witin`\n"
        "    witin: 10 minutes\n    ^\n  hint: did you mean `within`?\n\n1 error, 0 warnings\n"
    )


def test_warnings_are_no_failure(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X, times: '>= 0'}\n")
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 0
    assert "a: 1 warning\n" in answer.stdout
    assert ":2:25: warning: this always holds" in answer.stderr


def test_json(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X, times: '>= 0'}\n")
    answer = CliRunner().invoke(check, [str(directory), "--format", "json"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["ok"] is True
    assert found["project"] == {"audiences": ["a"], "events": ["X"], "traits": [], "attributes": [], "stories": []}
    (warning,) = found["diagnostics"]
    assert (warning["severity"], warning["line"], warning["column"]) == ("warning", 2, 25)
    (directory / "opportune.yml").unlink()
    answer = CliRunner().invoke(check, [str(directory), "--format", "json"])
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert (found["ok"], found["project"]) == (False, None)


def test_the_summary_counts_events_of_every_kind_of_condition(tmp_path: Path) -> None:
    audience = """name: a
when:
  any:
    - {event: A, sum: x, is: '> 1', within: 1 day}
    - {sequence: [{event: B}, {event: C}], within: 1 day}
    - {absent: {event: D}, after: {event: E}, for: 1 hour, within: 1 day}
    - {near: {lat: 1, lon: 2}, radius: 1 km, fresh: 1 hour, event: F}
    - {event: G, times: 2, within: day}
    - {event: H, last: x, is: {gt: {trait: t}}, within: 1 day}
    - none: [{event: I, within: 1 day}]
    - {during: {from: "09:00"}}
"""
    answer = CliRunner().invoke(check, [str(project(tmp_path, audience)), "--json"])
    found = json.loads(answer.stdout)["project"]
    assert (found["events"], found["traits"]) == (list("ABCDEFGHI"), ["t"])


def test_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(check, [str(tmp_path / "nowhere")]).exit_code == 2
    assert CliRunner().invoke(check, [str(tmp_path), "--format", "xml"]).exit_code == 2


def test_a_table_is_looked_into(tmp_path: Path) -> None:
    directory = project(
        tmp_path,
        "name: a\nwhen: {attribute: paln, is: free}\n",
        **{"warehouse.yml": "tables: {people: {source: people.csv, key: id}}\n", "people.csv": "id,plan\n1,free\n"},
    )
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 1
    assert "no table has a column `paln`" in answer.stderr
    assert "did you mean `plan`?" in answer.stderr


def test_stories_are_checked_too(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X}\n")
    (directory / "stories").mkdir()
    (directory / "stories" / "s.yml").write_text("story: s\ntimeline: [{at: 12:00, members: {b: []}}]\n")
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 1
    assert "stories/s.yml:2:34: error: there is no audience `b`" in answer.stderr


def test_the_plan_says_what_is_shared_and_kept(tmp_path: Path) -> None:
    audiences = """\
- {name: a, when: {event: X, times: ">= 3", within: 1 hour}}
- {name: b, when: {event: X, within: 1 day}}
- {name: c, when: [{event: X, where: {p: 1}, times: 2}, {trait: t, is: 1}]}
"""
    answer = CliRunner().invoke(check, [str(project(tmp_path, audiences)), "--explain-plan", "--json"])
    assert answer.exit_code == 0, answer.output
    plan = json.loads(answer.stdout)["plan"]
    first, second = plan["features"]
    assert (first["keeps"], first["audiences"], first["conditions"]) == ("the last 3 instants", ["a", "b"], 2)
    assert (second["where"], second["keeps"], second["audiences"]) == ("p is 1", "a number up to 3", ["c"])
    assert (plan["audiences"], plan["conditions"], plan["traits"]) == (3, 4, ["t"])
    by_event = {message["event"]: message["audiences"] for message in plan["messages"]}
    assert by_event == {"track X": ["a", "b", "c"], "identify": ["c"]}
    text = CliRunner().invoke(check, [str(tmp_path), "--explain-plan"]).stdout
    assert "4 conditions of 3 audiences come down to 2 features, 1 of them shared" in text


def test_bytes_are_not_below_what_is_stored() -> None:
    """Of a person with everything that the shop's audiences look at."""
    loaded = load_project(ROOT / "examples" / "shop")
    plan = Plan(loaded)
    total = 0
    for group in plan.groups[1:]:
        full = [[(1 << 42) + n for n in range(f.cap)] if f.windowed else f.cap for f in group.features.values()]
        total += len(msgspec.msgpack.encode(full))
    assert total <= report(plan).bytes_max <= total * 1.5


def test_a_state_is_kept_for_its_definitions(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X}\n")
    state = directory / "state"
    state.mkdir()
    arguments = [str(directory), "--against", str(state)]
    assert "no state yet" in CliRunner().invoke(check, arguments).stdout
    loaded = load_project(directory)
    shards = loaded.settings.state.shards
    store = RocksStore(state / "shards" / "0003", shared_memory(8 << 20, 8 << 20))
    identity = Identity(project="a", shard=3, shards=shards)
    open_shard(store, Expected(identity, Plan(loaded).fingerprint.encode(), routing(loaded).encode()))
    succeed([store], Plan(loaded))
    write = store.batch()
    Reached(store).save(write, 1_700_000_000_000)
    store.write(write)
    store.sync()
    answer = CliRunner().invoke(check, arguments)
    assert (answer.exit_code, "kept for these definitions" in answer.stdout) == (0, True)
    (directory / "audiences" / "a.yml").write_text(
        "- {name: a, when: {event: X, within: 1 day}}\n- {name: b, when: {event: X, times: '>= 2'}}\n"
        "- {name: c, when: {event: Y}, start: empty}\n"
    )
    answer = CliRunner().invoke(check, [*arguments, "--json"])
    found = json.loads(answer.stdout)
    assert (answer.exit_code, found["ok"], found["state"]["starts"], found["state"]["changed"]) == (0, True, True, True)
    assert found["state"]["audiences"] == [
        {"audience": "a", "fate": "warming", "until": "2023-11-15T22:13:20.000Z"},
        {"audience": "b", "fate": "warming", "new": True},
        {"audience": "c", "fate": "evaluated", "new": True},
    ]
    text = CliRunner().invoke(check, arguments).stdout
    assert "features: 1 kept, 2 new, 0 dropped" in text
    assert "waits, and answers `warming` until 2023-11-15T22:13:20.000Z" in text
    (directory / "identity.yml").write_text("blocked: [none]\n")
    answer = CliRunner().invoke(check, [*arguments, "--json"])
    found = json.loads(answer.stdout)
    assert (answer.exit_code, found["ok"], found["state"]["starts"]) == (1, False, False)
    ((reason, where),) = found["state"]["refusals"].items()
    assert ("count twice" in reason, where) == (True, [3])
