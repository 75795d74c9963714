"""Where the board is shown: the whole terminal, redrawn some times a second, or lines of text.

Owns: the choice, and when something is written. Invariant: the terminal is left as it was found.
Not here: what is drawn (flows.demo.view).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from flows.demo.board import Board
from flows.demo.view import line, screen, sentence
from opportune.membership import MembershipChange

FRAME_MS = 250
LINE_MS = 2_000
SENTENCES = 3


class Display:
    """Shows a board for as long as it is open.

    Args:
        console: a terminal, or anything else that text can be written to.
        board: what is shown.
        source: which broker, in a few words.
    """

    def __init__(self, console: Console, board: Board, source: str) -> None:
        self._console = console
        self._board = board
        self._source = source
        self._next_ms = board.now_ms
        self._told = 0
        self._calls_told = False
        self._live = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """Draw, if it is time."""
        now_ms = self._board.now_ms
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + (LINE_MS if self._live is None else FRAME_MS)
        if self._live is None:
            self._tell()
        else:
            size = self._console.size
            self._live.update(screen(self._board, size.width, size.height, self._source), refresh=True)

    def _tell(self) -> None:
        """One line of figures, and a few of the changes since the last one; once, the commands for another terminal."""
        self._write(line(self._board))
        if self._board.calls and not self._calls_told:
            self._calls_told = True
            self._write("Ask it yourself, from another terminal:")
            for call in self._board.calls:
                self._write(call)
        fresh = list(self._board.newest)[: self._board.changes - self._told]
        self._told = self._board.changes
        for change in varied(fresh)[:SENTENCES]:
            self._write("      " + sentence(change, self._board))

    def _write(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def varied(changes: Sequence[MembershipChange]) -> list[MembershipChange]:
    """Changes in an order in which causes take turns; those come first that are few, and that one would not expect."""
    turns: Counter[str] = Counter()
    placed: list[tuple[int, int, MembershipChange]] = []
    for change in changes:
        placed.append((turns[change.cause], change.cause not in ("attribute", "merged"), change))
        turns[change.cause] += 1
    return [change for _, _, change in sorted(placed, key=itemgetter(0, 1))]
