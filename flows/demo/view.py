"""The live view: the board, drawn for a terminal of any size, or as a line of text.

Owns: the drawing. Invariant: it fits its terminal, from 80 columns and 24 rows on, and everything shown is on the board.
Not here: what is on the board (flows.demo.board), when it is drawn (flows.demo.demonstration).
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.layout import Layout
from rich.measure import Measurement
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from flows.demo.board import Board, name_of
from opportune.membership import MembershipChange

FRAME_ROWS = 5
LEAST_ROWS = 5
WIDE = 100
NAME_LENGTH = 22
WHO_LENGTH = 10
FIGURE_LENGTH = 5
SPARKS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"


def screen(board: Board, width: int, height: int, source: str) -> RenderableType:
    """The whole screen.

    Args:
        board: what to draw.
        width: of the terminal, in characters.
        height: of the terminal, in rows.
        source: which broker, in a few words.
    """
    layout = Layout()
    rows = height - FRAME_ROWS - len(board.calls)
    tall = min(len(board.tallies) + 2, max(LEAST_ROWS, rows // 2))
    layout.split_column(
        Layout(_headline(board, source), size=1),
        Layout(_figures(board, width), size=3),
        Layout(_audiences(board, tall - 2), size=tall),
        Layout(_changes(board, rows - tall - 2, width)),
        Layout(_refused(board), size=1),
        # No frame around them: they are to be copied.
        *(Layout(Text(call, no_wrap=True, style="bold green"), size=1) for call in board.calls),
    )
    return layout


def line(board: Board) -> str:
    """One line of text for where there is no terminal."""
    if board.status is None:
        return f"{_elapsed(board)}  the flow is starting"
    rate = board.rates[-1] if board.rates else 0
    return (
        f"{_elapsed(board)}  events/s {rate:,}  lag {board.lag:,}  freshness {_freshness(board)}"
        f"  events {board.events:,}  merges {board.merges:,}  refused {board.refused.total():,}"
        f"  memberships {board.memberships:,}  changes {board.changes:,}"
    )


def sentence(change: MembershipChange, board: Board) -> str:
    """A change as a line of text: when, who, what and why."""
    return f"{change.at[11:23]}  {who(change)} {change.change} {change.audience}: {why(change, board)}"


def who(change: MembershipChange) -> str:
    """The strongest identifier of the change's profile, shortened."""
    return _short(name_of(change))


def why(change: MembershipChange, board: Board) -> str:
    """What made it so, in words; of a merge, who became part of whom."""
    if change.merged_into is not None:
        return f"merged: is {_short(board.names.get(change.merged_into, change.merged_into))} now, who was seen with it"
    if change.merged_from:
        others = ", ".join(_short(board.names.get(other, other)) for other in change.merged_from)
        return f"merged: {others} became part of it and was in"
    description = board.tallies[change.audience].description
    reason = change.cause if change.change == "entered" else f"{change.cause}: no longer"
    if not description:
        return reason
    return f"{reason}: {description}" if change.change == "entered" else f"{reason} {description}"


def _short(name: str) -> str:
    return name if len(name) <= WHO_LENGTH else name[: WHO_LENGTH - 1] + "…"


class Bar:
    """A bar in eighths of a character, as wide as its cell allows.

    Args:
        share: 0 to 1 of the width.
        color: of the bar.
    """

    def __init__(self, share: float, color: str) -> None:
        self.share = share
        self.color = color

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """The bar as text."""
        eighths = round(self.share * options.max_width * 8)
        text = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
        yield Segment(text.ljust(options.max_width), Style(color=self.color))

    def __rich_measure__(self, _: Console, options: ConsoleOptions) -> Measurement:
        """Anything from a few characters to all there is."""
        return Measurement(4, options.max_width)


def _headline(board: Board, source: str) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    left = Text.assemble((" Opportune ", "bold white on blue"), f" {board.project}  ", (source, "dim"))
    grid.add_row(left, Text.assemble(_elapsed(board), ("   Ctrl-C ends ", "dim")))
    return grid


def _figures(board: Board, width: int) -> RenderableType:
    """The row of figures; before the worker's first word there is only the clock."""
    if board.status is None:
        return Panel(Text("the flow is starting ...", style="yellow"), border_style="blue")
    rate = board.rates[-1] if board.rates else 0
    sparks = f" {_sparks(board)}" if width >= WIDE else ""
    figures = (
        ("events/s", f"{rate:,}{sparks}"),
        ("lag", f"{board.lag:,}"),
        ("freshness", _freshness(board)),
        ("memberships", f"{board.memberships:,}"),
        ("changes", f"{board.changes:,}"),
    )
    text = Text("  ", no_wrap=True, overflow="ellipsis").join(
        Text.assemble((f"{name} ", "dim"), (figure, "bold")) for name, figure in figures
    )
    return Panel(text, border_style="blue")


def _audiences(board: Board, rows: int) -> RenderableType:
    """The audiences in order of name; the largest ones where there is no room for all."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=NAME_LENGTH)
    grid.add_column(ratio=1)
    for _ in range(3):
        grid.add_column(no_wrap=True, justify="right", min_width=FIGURE_LENGTH)
    largest = max((tally.members for tally in board.tallies.values()), default=0)
    shown = sorted(board.tallies.items(), key=lambda entry: -entry[1].members)[:rows]
    for name, tally in sorted(shown):
        grid.add_row(
            Text(name),
            Bar(tally.members / largest if largest else 0.0, "cyan"),
            Text(f"{tally.members:,}", style="bold"),
            Text(f"+{tally.entered:,}", style="green"),
            Text(f"-{tally.exited:,}", style="red"),
        )
    hidden = len(board.tallies) - len(shown)
    title = "audiences: members, entered, exited" + (f" ({hidden} smaller ones are not shown)" if hidden else "")
    return Panel(grid, title=title, title_align="left", border_style="blue")


def _changes(board: Board, rows: int, width: int) -> RenderableType:
    """As many of the newest changes as there are rows."""
    grid = Table.grid(expand=True, padding=(0, 1))
    for longest in (None, None, NAME_LENGTH + 2):
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=longest)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for change in _varied(board, max(rows, 0)):
        arrow, style = ("→", "green") if change.change == "entered" else ("←", "red")
        grid.add_row(
            Text(change.at[11 : 23 if width >= WIDE else 19], style="dim"),
            Text(who(change), style="bold"),
            Text(f"{arrow} {change.audience}", style=style),
            Text(why(change, board), style="dim"),
        )
    content: RenderableType = grid if board.newest else Text("nobody has entered or exited yet", style="dim")
    return Panel(content, title="newest changes: → entered, ← exited (UTC)", title_align="left", border_style="blue")


def _varied(board: Board, rows: int) -> list[MembershipChange]:
    """The newest changes, of which one busy audience takes half of the rows at most while there are others to show."""
    most = (rows + 1) // 2
    taken: Counter[str] = Counter()
    chosen: list[tuple[int, MembershipChange]] = []
    spare: list[tuple[int, MembershipChange]] = []
    for number, change in enumerate(board.newest):
        taken[change.audience] += 1
        (chosen if taken[change.audience] <= most else spare).append((number, change))
    shown = sorted([*chosen, *spare][:rows], key=itemgetter(0))
    return [change for _, change in shown]


def _refused(board: Board) -> RenderableType:
    reasons = sorted(board.refused.items(), key=lambda entry: (-entry[1], entry[0]))
    told = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    refused = f"{board.refused.total():,}  {told}"
    merges = f"{board.merges:,}"
    text = Text.assemble(
        (" merges ", "dim"), merges, ("  duplicates ", "dim"), f"{board.repeats:,}", ("  refused ", "dim"), refused
    )
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _sparks(board: Board) -> str:
    newest = list(board.rates)[-8:]
    top = max(newest, default=0) or 1
    return "".join(SPARKS[rate * (len(SPARKS) - 1) // top] for rate in newest)


def _freshness(board: Board) -> str:
    return "unknown" if board.freshness_ms is None else f"{board.freshness_ms:,} ms"


def _elapsed(board: Board) -> str:
    seconds = board.elapsed_ms // 1000
    return f"{seconds // 60}:{seconds % 60:02d}"
