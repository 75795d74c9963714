"""What happened in a demo, told at its end.

Owns: the closing text and the verdict. Not here: the numbers (flows.demo.board).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.demo.board import Board

EXPECTED = frozenset({"event", "late", "duplicate"})
"""Kinds of traffic that a demo expects to be taken; every other kind is named after the reason of its refusal."""


def report(board: Board) -> Iterator[str]:
    """The lines of the closing text."""
    account = board.account
    good = {kind: count for kind, count in account.sent.items() if kind in EXPECTED}
    bad = {kind: count for kind, count in account.sent.items() if kind not in EXPECTED}
    yield f"What happened in {board.elapsed_ms / 1000:.0f} seconds, the start of the flow and its end included"
    yield f"  sent          {account.records:,} records ({_counts(good)})"
    yield f"  of these bad  {sum(bad.values()):,} ({_counts(bad)})"
    if account.failed:
        yield f"  not sent      {account.failed:,} records, which the broker did not take"
    if board.status is None:
        yield "  the flow did not start"
        return
    refused = board.refused.total()
    yield f"  read          {board.events:,} events, of which {board.events - refused - board.repeats:,} counted"
    yield f"  refused       {refused:,} ({_counts(board.refused)})"
    yield f"  duplicates    {board.repeats:,} dropped"
    yield f"  merges        {board.merges:,} profiles became part of another: one person, more identifiers"
    if board.restarts:
        yield f"  restarts      {board.restarts} of the worker"
    yield f"  changes       {board.changes:,}{_first(board)}"
    width = max([len(name) for name in board.tallies] + [len("audience")])
    yield f"  {'audience':<{width}}  {'entered':>8}  {'exited':>8}  {'members now':>11}"
    for name, tally in sorted(board.tallies.items()):
        yield f"  {name:<{width}}  {tally.entered:>8,}  {tally.exited:>8,}  {tally.members:>11,}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _first(board: Board) -> str:
    if board.first_change_ms is None:
        return ""
    return f", the first {board.first_change_ms / 1000:.1f} s after the start of the flow"
