"""Replay of files: the watermark, what moves it, and changes in order, each once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.replay import CHUNK, Replay, replay
from flows.replay_changes import ORDER, Emitted, decode_emitted, encode_change, without_flaps
from flows.replay_result import Refresh, ReplayResult
from opportune.audiences.schema import All, AttributeCondition, Condition, Not, Table
from opportune.event import instant_ms
from opportune.membership import MembershipChange
from opportune.project import Project
from opportune.settings import Clock, Dedupe, Settings
from state.warehouse import WarehouseTable
from tests.model.logs import messages
from tests.oracle.builders import DAY_0, happened, message, predicate, project, track
from tests.oracle.engine import warehouse
from tests.unit.flows.one_shard import Told

A10 = happened("A", within_ms=10)
A10_ONLY: dict[str, Condition] = {"a": A10}


def told(result: ReplayResult) -> list[Told]:
    """The changes of a replay, in short."""
    return [Told(instant_ms(one.at) - DAY_0, one.audience, one.change, one.cause) for one in result.changes]


def test_the_watermark_is_over_the_whole_input_and_ends_with_the_last_event() -> None:
    result = replay(project(A10_ONLY), [track("A", 0), track("A", 5, "bob"), track("B", 12, "cid")])
    assert told(result) == [
        Told(0, "a", "entered", "event"),
        Told(5, "a", "entered", "event"),
        Told(10, "a", "exited", "time"),
    ]
    assert (result.events, result.applied, result.profiles, result.end_ms) == (3, 2, 3, DAY_0 + 12)


def test_what_is_due_at_the_end_is_fired() -> None:
    assert told(replay(project(A10_ONLY), [track("A", 0), track("B", 10)]))[-1] == Told(10, "a", "exited", "time")
    assert len(told(replay(project(A10_ONLY), [track("A", 0), track("B", 9)]))) == 1
    assert len(told(replay(project(A10_ONLY), [track("A", 0)], until_ms=DAY_0 + 10))) == 2
    assert len(told(replay(project(A10_ONLY), [track("A", 0)], until_ms=DAY_0 + 9))) == 1


def test_events_after_the_end_are_ignored_and_counted_and_not_what_arrives_after_them() -> None:
    result = replay(project(A10_ONLY), [track("A", 50), track("A", 5), track("B", 6)], until_ms=DAY_0 + 20)
    assert told(result) == [Told(5, "a", "entered", "event"), Told(15, "a", "exited", "time")]
    assert (result.after_until, result.profiles, result.end_ms) == (1, 1, DAY_0 + 20)


def test_an_event_without_a_time_counts_as_of_the_watermark() -> None:
    result = replay(project(A10_ONLY), [track("A"), track("B", 7), track("A")])
    assert told(result) == [Told(7, "a", "entered", "event")]
    assert result.refused == {"bad_time": 1}


def test_refused_and_dropped_events_move_no_watermark() -> None:
    settings = Settings(clock=Clock(lateness_ms=100), dedupe=Dedupe(period_ms=1_000))
    audiences: dict[str, Condition] = {"a": A10, "c": happened("C")}
    for moves in (
        track("A", 50, None),
        message("trakc", 50),
        track("A", 50, "null"),
        track("A", 50, messageId="m"),
        track("Q", 50, messageId="m"),
        b"{",
        track("A", -200),
    ):
        lines = [track("A", 0, messageId="m"), moves, track("C", 9, "bob")]
        assert told(replay(project(audiences, settings), lines)) == [
            Told(0, "a", "entered", "event"),
            Told(9, "c", "entered", "event"),
        ], moves


def test_a_message_id_counts_again_after_the_period() -> None:
    settings = Settings(dedupe=Dedupe(period_ms=100))
    audiences: dict[str, Condition] = {"two": happened("A", times=predicate(gte=2))}
    for at, entered in ((99, 0), (100, 1)):
        lines = [track("A", 0, messageId="m"), track("B", at - 1), track("A", at, messageId="m")]
        result = replay(project(audiences, settings), lines)
        assert (len(result.changes), result.duplicates) == (entered, 1 - entered)


def test_an_event_that_claims_to_be_later_than_it_was_received_is_counted() -> None:
    lines = [track("A", 5, receivedAt=3), track("A", 5, receivedAt=7), track("A", 2, receivedAt=1, messageId="m")]
    lines.append(track("A", 2, receivedAt=1, messageId="m"))
    result = replay(project(A10_ONLY), lines)
    assert (result.clamped, result.duplicates) == (2, 1)
    assert told(result)[0] == Told(3, "a", "entered", "event")


def test_a_late_event_goes_where_it_belongs() -> None:
    audiences: dict[str, Condition] = {"quiet": All((A10, Not((happened("B", within_ms=20),))))}
    result = replay(project(audiences), [track("A", 5), track("C", 6, "bob"), track("B", 2), track("C", 40, "bob")])
    assert told(result) == [Told(5, "quiet", "entered", "event"), Told(6, "quiet", "exited", "event")]


def instants() -> list[list[bytes]]:
    """Events of some instants, those of different people."""
    return [
        [track("A", at, person, messageId=f"{person}{at % 3}") for person in ("ann", "bob", "cid")]
        for at in (0, 3, 10, 11, 20)
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_people_within_an_instant_does_not_matter(order: tuple[int, ...]) -> None:
    audiences: dict[str, Condition] = {"a": A10, "n": Not((happened("A", times=predicate(gte=2), within_ms=15),))}
    expected = replay(project(audiences), [line for instant in instants() for line in instant]).changes
    found = replay(project(audiences), [instant[place] for instant in instants() for place in order]).changes
    assert [without_clock(one) for one in found] == [without_clock(one) for one in expected]


def without_clock(change: MembershipChange) -> tuple[object, ...]:
    """A change but for when it was made."""
    return (change.id, change.audience, change.change, change.at, change.cause, change.event_id is None)


def test_changes_come_in_order_with_rising_versions_however_many_lines_there_are() -> None:
    lines = [track("A", at // 3, f"u{at % 7}", messageId=f"m{at % 1_000}") for at in range(3 * CHUNK)]
    result = replay(project({"a": A10, "b": happened("A", times=predicate(gte=2), within_ms=5)}), lines)
    keys = [(one.at, one.profile_id, one.audience) for one in result.changes]
    assert keys == sorted(set(keys))
    newest: dict[str, int] = {}
    for one in result.changes:
        assert one.version > newest.get(one.profile_id, 0)
        newest[one.profile_id] = one.version
    assert result.events == 3 * CHUNK


def test_changes_are_handed_out_as_time_passes() -> None:
    run = Replay(project(A10_ONLY))
    lines = (track("A", at, f"u{at}") for at in range(4 * CHUNK))
    changes = run.run(lines)
    first = next(changes)
    assert first.at == "2023-11-14T22:13:20.000Z"
    assert run.result.events < 4 * CHUNK, "the input is not read to its end before anything comes out"
    assert 1 + sum(1 for _ in changes) == 8 * CHUNK - 10


FREE = AttributeCondition("customers", "plan", predicate(eq="free"))


def with_rows(directory: Path, audiences: dict[str, Condition], rows: str) -> tuple[Project, dict[str, object]]:
    """A project with a table of customers."""
    (directory / "customers.csv").write_text("user_id,plan\n" + rows)
    table = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})
    made = project(audiences, tables={"customers": table})
    return made, dict(warehouse(made, directory))


def test_rows_are_in_force_from_before_the_first_event(tmp_path: Path) -> None:
    made, tables = with_rows(tmp_path, {"both": All((FREE, A10)), "free": FREE}, "ann,free\nbob,free\n")
    result = replay(made, [track("A", 5), track("A", 9, "cid")], tables=tables)  # type: ignore[arg-type]  # a table made by hand
    assert told(result) == [
        Told(5, "both", "entered", "event"),
        Told(5, "free", "entered", "attribute"),
        Told(5, "free", "entered", "attribute"),
    ]
    ann = [one for one in result.changes if one.identifiers == {"user_id": ["ann"]}]
    assert [one.version for one in ann] == [(DAY_0 + 5) * 1024, (DAY_0 + 5) * 1024 + 1]
    assert [one.id for one in ann] == [f"{one.profile_id}/{one.version}" for one in ann]
    assert result.profiles == 3


def test_rows_without_events_count_as_of_the_end_or_of_now(tmp_path: Path) -> None:
    made, tables = with_rows(tmp_path, {"free": FREE}, "ann,free\n")
    result = replay(made, [], tables=tables, until_ms=DAY_0 + 3)  # type: ignore[arg-type]  # a table made by hand
    assert told(result) == [Told(3, "free", "entered", "attribute")]
    run = Replay(made, tables=tables, clock=lambda: DAY_0 + 4)  # type: ignore[arg-type]  # a table made by hand
    assert [one.at for one in run.run([])] == ["2023-11-14T22:13:20.004Z"]


def test_nothing_comes_of_nothing() -> None:
    result = replay(project(A10_ONLY), [])
    assert (result.changes, result.events, result.end_ms) == ([], 0, None)
    assert replay(project(A10_ONLY), [b"", b"x"]).refused == {"not_json": 2}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["9999-12-31T23:59:59.999Z"], ["9999-12-31T23:59:59.999Z"]),
        (["0001-01-01T00:00:00Z", "2023-11-14T22:13:20Z"], ["2023-11-14T22:13:20.000Z"]),
        (["1969-12-31T23:59:59.999Z"], ["1970-01-01T00:00:00.001Z"]),
        (["1970-01-01T00:00:00Z"], ["1970-01-01T00:00:00.001Z"]),
    ],
)
def test_the_ends_of_time(lines: list[str], expected: list[str]) -> None:
    result = replay(
        project({"a": happened("A", within_ms=10**10)}), [track("A", None, timestamp=text) for text in lines]
    )
    assert [one.at for one in result.changes if one.change == "entered"] == expected


def test_only_touched_audiences_are_evaluated() -> None:
    audiences: dict[str, Condition] = {"a": A10, "b": happened("B")}
    result = replay(project(audiences), [track("A", 0), track("A", 1), track("B", 20)], counting=True)
    assert result.evaluated == {"a": 4, "b": 1}


def change(audience: str, version: int, entered: bool, at: str = "t1", profile: str = "p") -> MembershipChange:
    """A change as a part of an instant gives it."""
    return MembershipChange(
        id=f"{profile}/{version}",
        audience=audience,
        change="entered" if entered else "exited",
        profile_id=profile,
        identifiers={},
        at=at,
        emitted_at="",
        cause="event",
        version=version,
        definition_version="",
    )


def test_parts_of_an_instant_have_one_net() -> None:
    parts = [
        change("b", 10, True),
        change("c", 11, True),
        change("b", 12, False),
        change("a", 13, True),
        change("b", 14, True, "t2"),
        change("a", 10, True, profile="q"),
    ]
    emitted: list[Emitted] = [
        (one.at, f"{one.profile_id:<32}/{one.audience}", encode_change(one).decode(), one.change == "entered")
        for one in parts
    ]
    net = [decode_emitted(one) for one in without_flaps(sorted(emitted, key=ORDER), {"t1"})]
    assert [(one.id, one.audience, one.version) for one in net] == [
        ("p/10", "a", 10),
        ("p/11", "c", 11),
        ("q/10", "a", 10),
        ("p/14", "b", 14),
    ]


@given(messages(), st.integers(1, 3))
def test_how_much_is_applied_at_a_time_does_not_show(raws: list[bytes], many: int) -> None:
    audiences: dict[str, Condition] = {"a": A10, "b": Not((A10,)), "c": happened("B")}
    expected = replay(project(audiences), raws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.replay.CHUNK", many)
        patch.setattr("flows.replay.PART_MAX", many)
        found = replay(project(audiences), raws)
    assert [(one.id, one.at, one.change, one.cause) for one in found.changes] == [
        (one.id, one.at, one.change, one.cause) for one in expected.changes
    ]
    assert (found.refused, found.duplicates, found.clamped) == (expected.refused, expected.duplicates, expected.clamped)


def table(directory: Path, plan: str) -> dict[str, WarehouseTable]:
    """Ann's row, loaded."""
    (directory / "customers.csv").write_text(f"user_id,plan\nann,{plan}\n")
    return warehouse(ON_PLAN, directory)


CUSTOMERS = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})
FREE = AttributeCondition("customers", "plan", predicate(eq="free"))
ON_PLAN = project(
    {"both": All((FREE, A10)), "free": FREE, "idle": All((FREE, Not((A10,))))}, None, {"customers": CUSTOMERS}
)


@pytest.mark.parametrize("split", [1, 2])
def test_a_refresh_and_an_event_of_one_instant(tmp_path: Path, split: int) -> None:
    paid, free = table(tmp_path, "paid"), table(tmp_path, "free")
    one = Replay(ON_PLAN, tables=paid, refreshes=[Refresh(DAY_0 + 20, free)])
    raws = [track("B", 0), track("A", 20), track("B", 40)]
    blocks = [raws[at : at + split] for at in range(0, 3, split)]
    changes = [decode_emitted(each) for block in one.run_blocks(blocks) for each in block]
    assert [Told(instant_ms(each.at) - DAY_0, each.audience, each.change, each.cause) for each in changes] == [
        # The refresh alone makes her free; only with the event is she in both, and never idle in between.
        Told(20, "both", "entered", "event"),
        Told(20, "free", "entered", "attribute"),
        Told(30, "both", "exited", "time"),
        Told(30, "idle", "entered", "time"),
    ]


def test_an_event_that_is_refused_brings_no_table_into_force(tmp_path: Path) -> None:
    paid, free = table(tmp_path, "paid"), table(tmp_path, "free")
    twice = track("A", 0, messageId="m"), track("A", 50, messageId="m")
    one = Replay(ON_PLAN, tables=paid, refreshes=[Refresh(DAY_0 + 20, free)])
    assert [decode_emitted(each).audience for block in one.run_blocks([list(twice)]) for each in block] == []
    assert one.result.duplicates == 1
