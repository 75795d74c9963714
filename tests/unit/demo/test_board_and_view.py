from __future__ import annotations

import io
from typing import Literal

import msgspec
import pytest
from rich.console import Console

from flows.demo.board import NEWEST_MAX, Board, Status
from flows.demo.display import Display, varied
from flows.demo.report import report
from flows.demo.service import calls
from flows.demo.traffic import Account
from flows.demo.view import line, screen, sentence
from opportune.membership import Cause, MembershipChange

AUDIENCES = {
    "pricing_intent": ">= 3 x Pricing Viewed in 10 minutes and plan = free",
    "an_audience_whose_name_is_far_too_long": "Product Viewed in 20 seconds",
    "nobody": "never",
}


def change(
    audience: str, what: Literal["entered", "exited"], cause: Cause = "event", who: str = "u-0042"
) -> MembershipChange:
    return MembershipChange(
        id="1",
        audience=audience,
        change=what,
        profile_id="0f" * 16,
        identifiers={"user_id": [who]},
        at="2026-01-02T03:04:05.678Z",
        emitted_at="2026-01-02T03:04:05.700Z",
        cause=cause,
        version=1,
        definition_version="d",
    )


@pytest.fixture
def board() -> Board:
    board = Board("shop", AUDIENCES, ("shop.events",), started_ms=1_000)
    for number in range(5):
        board.changed(change("pricing_intent", "entered", who=f"u-{number:04d}"), 3_500 + number)
    board.changed(change("pricing_intent", "exited", "time"), 4_000)
    board.changed(change("an_audience_whose_name_is_far_too_long", "entered"), 4_100)
    board.account = Account({"event": 580, "duplicate": 8, "not_json": 2, "bad_time": 3})
    applied = {"shop.events/0": 300, "shop.events/1": 293, "shop.mailbox/0": 900}
    lag = {"shop.events/0": 4, "shop.events/1": 3}
    board.reported(Status(at_ms=10_000, started_ms=5, events=293, rejected={"not_json": 1}))
    refused = {"not_json": 2, "bad_time": 3}
    now = Status(at_ms=11_000, started_ms=5, events=593, repeats=8, rejected=refused, lag=lag, applied=applied)
    board.reported(msgspec.structs.replace(now, shard_ms={"0": 10_990, "1": 10_938}))
    board.now_ms = 84_000
    return board


def drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(screen(board, width, height, "embedded broker"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
def test_the_screen_fits_the_terminal_and_shows_what_matters(board: Board, width: int, height: int) -> None:
    lines = drawn(board, width, height)
    assert len(lines) == height
    assert all(len(text) <= width for text in lines)
    text = "\n".join(lines)
    for wanted in (
        "events/s 300", "lag 7", "freshness 62 ms", "memberships 5", "changes 7", "1:23", "shop", "embedded broker",
        "→ pricing_intent", "← pricing_intent", "u-0003", "03:04:05", "refused 5  bad_time 3, not_json 2", "duplicates 8",
        "event: >= 3 x Pricing", "time: no longer >= 3 x",
    ):  # fmt: skip
        assert wanted in text
    assert ("in 10 minutes and plan = free" in text) == (width >= 120)


def test_the_calls_are_shown_whole_and_without_a_frame(board: Board) -> None:
    board.calls = calls("127.0.0.1:65535", "user_id:u-0042", "pricing_intent")
    lines = drawn(board, 80, 24)
    assert len(lines) == 24
    assert tuple(text.rstrip() for text in lines[-3:]) == board.calls
    assert "→ pricing_intent" in "\n".join(lines)


def test_a_terminal_that_is_too_small_still_gets_a_screen_that_fits(board: Board) -> None:
    lines = drawn(board, 50, 16)
    assert len(lines) == 16
    assert all(len(text) <= 50 for text in lines)


def test_before_the_flow_is_up_the_screen_says_so() -> None:
    text = "\n".join(drawn(Board("shop", AUDIENCES, (), 0), 80, 24))
    assert "the flow is starting" in text
    assert "nobody has entered or exited yet" in text


def test_where_there_is_no_room_for_all_audiences_the_largest_are_shown() -> None:
    board = Board("shop", {f"a{number:02d}": "" for number in range(30)}, (), 0)
    for number in (7, 19, 28):
        board.changed(change(f"a{number:02d}", "entered"), 1)
    text = "\n".join(drawn(board, 80, 24))
    assert all(f"│ a{number:02d} " in text for number in (7, 19, 28))
    assert "smaller ones are not shown" in text


def test_a_busy_audience_leaves_room_for_the_changes_of_others() -> None:
    board = Board("shop", {"busy": "", "rare": ""}, (), 0)
    board.changed(change("rare", "entered", who="u-0007"), 1)
    for number in range(60):
        board.changed(change("busy", "entered", who=f"v-{number:04d}"), 2)
    lines = [text for text in drawn(board, 80, 24) if "→ busy" in text or "→ rare" in text]
    assert len(lines) == 13
    assert "u-0007" in lines[-1]
    assert "v-0059" in lines[0]


def test_a_change_is_told_with_who_what_why_and_when() -> None:
    entered = change("pricing_intent", "entered")
    board = Board("shop", {"pricing_intent": "three views"}, (), 0)
    assert sentence(entered, board) == "03:04:05.678  u-0042 entered pricing_intent: event: three views"
    exited = change("pricing_intent", "exited", "time")
    assert sentence(exited, board) == "03:04:05.678  u-0042 exited pricing_intent: time: no longer three views"


def test_a_merge_is_told_as_who_became_part_of_whom() -> None:
    board = Board("shop", {"pricing_intent": "three views"}, (), 0)
    left = msgspec.structs.replace(
        change("pricing_intent", "exited", "merged"),
        identifiers={"anonymous_id": ["6f1c2f"]},
        profile_id="aa" * 16,
        merged_into="0f" * 16,
    )
    came = msgspec.structs.replace(change("pricing_intent", "entered", "merged"), merged_from=["aa" * 16])
    assert "is 0f0f0f0f0… now" in sentence(left, board), "nothing else is known yet"
    for one in (left, came):
        board.changed(one, 1)
    assert (
        sentence(left, board)
        == "03:04:05.678  6f1c2f exited pricing_intent: merged: is u-0042 now, who was seen with it"
    )
    assert sentence(came, board) == (
        "03:04:05.678  u-0042 entered pricing_intent: merged: 6f1c2f became part of it and was in"
    )
    board.reported(Status(at_ms=1, started_ms=1, identities={"merged": 7}))
    board.reported(Status(at_ms=2, started_ms=2, identities={"merged": 2}))
    assert "merges 9" in "\n".join(drawn(board, 80, 24))
    assert "merges 9" in line(board)
    assert any("merges        9 profiles" in text for text in report(board))


def test_where_few_are_told_the_causes_take_turns() -> None:
    causes: list[Cause] = ["event", "event", "time", "merged", "merged", "attribute", "event"]
    told = [one.cause for one in varied([change("nobody", "exited", cause) for cause in causes])]
    assert told == ["merged", "attribute", "event", "time", "merged", "event", "event"]


def test_sizes_are_entries_less_exits_and_the_newest_come_first(board: Board) -> None:
    assert board.tallies["pricing_intent"].members == 4
    assert board.newest[0].audience == "an_audience_whose_name_is_far_too_long"
    assert board.first_change_ms == 2_500
    for number in range(NEWEST_MAX * 2):
        board.changed(change("nobody", "entered", who=str(number)), 9_000)
    assert len(board.newest) == NEWEST_MAX
    assert board.tallies["nobody"].members == NEWEST_MAX * 2


def test_a_worker_that_was_started_again_counts_anew_and_the_board_goes_on(board: Board) -> None:
    board.reported(Status(at_ms=12_000, started_ms=11_500, events=50, repeats=1, rejected={"not_json": 1}))
    assert list(board.rates) == [300, 50]
    board.reported(Status(at_ms=12_000, started_ms=11_500, events=50, repeats=1, rejected={"not_json": 1}))
    assert list(board.rates) == [300, 50]
    assert (board.restarts, board.events, board.repeats) == (1, 643, 9)
    assert board.refused == {"not_json": 3, "bad_time": 3}


def test_it_is_drained_when_everything_sent_is_applied(board: Board) -> None:
    assert not board.drained(), "some lag is left: of what was sent by hand"
    assert board.status is not None
    board.reported(msgspec.structs.replace(board.status, lag={"shop.events/0": 0, "shop.mailbox/0": 2}))
    assert board.drained()
    board.account = Account({"event": 594})
    assert not board.drained()


def test_the_report_tells_what_happened(board: Board) -> None:
    text = "\n".join(report(board))
    for wanted in ("593 records", "593 events, of which 580 counted", "refused       5 (bad_time 3, not_json 2)", "duplicates    8",
                   "the first 2.5 s after"):  # fmt: skip
        assert wanted in text
    row = next(text for text in report(board) if text.strip().startswith("pricing_intent"))
    assert row.split() == ["pricing_intent", "5", "1", "4"]


def test_without_a_terminal_there_are_lines_of_text(board: Board) -> None:
    output = io.StringIO()
    board.calls = calls("127.0.0.1:65535", "user_id:u-0042", "pricing_intent")
    with Display(Console(file=output, width=60), board, "embedded broker") as display:
        display.show()
        display.show()
        first = line(board)
        board.now_ms += 10_000
        display.show()
    lines = output.getvalue().splitlines()
    assert lines[0] == first
    assert [text for text in lines if text.startswith("curl")] == list(board.calls)
    lines = [text for text in lines if text not in board.calls and "another terminal" not in text]
    assert "u-0042 entered an_audience_whose_name_is_far_too_long" in lines[1]
    assert len(lines) == 5
    assert "\x1b" not in output.getvalue()
