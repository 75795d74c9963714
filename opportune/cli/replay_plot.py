"""A picture of the members of each audience over time.

Owns: the drawing, one panel an audience over a common axis of time. The only importer of matplotlib, which is an extra:
``pip install "opportune[plot]"``.
Not here: counting (opportune.cli.replay_counts).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opportune.cli.replay_counts import Curve
from opportune.errors import ConfigurationError

ENDINGS = (".png", ".svg", ".pdf")
COLUMNS = 3
INK, FAINT = "#1f2933", "#9aa5b1"
COLOURS = ("#2563eb", "#0d9488", "#d97706", "#9333ea", "#dc2626", "#4d7c0f")


def library() -> Any:
    """The drawing library. Raises ``ConfigurationError`` where it is not installed."""
    try:
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise ConfigurationError('--plot needs matplotlib: pip install "opportune[plot]"') from error


def draw(
    file: Path, curves: Mapping[str, Curve], peaks: Mapping[str, int], start_ms: int, end_ms: int, title: str
) -> None:
    """Draws the curves into a file.

    Args:
        file: its name ends with one of ``ENDINGS``.
        curves: by audience; one without points is empty all the time.
        peaks: the most members at one instant, by audience.
        start_ms: where the axis of time begins, milliseconds since the epoch.
        end_ms: where it ends.
        title: of the picture.

    Raises:
        ConfigurationError: the library is missing, or the file cannot be written.
    """
    library()
    dates: Any = importlib.import_module("matplotlib.dates")
    figures: Any = importlib.import_module("matplotlib.figure")

    columns = min(COLUMNS, max(len(curves), 1))
    rows = -(-len(curves) // columns) or 1
    figure = figures.Figure(figsize=(5.2 * columns, 1.9 * rows + 0.7), layout="constrained", facecolor="white")
    figure.suptitle(f"{title}: members from {_day(start_ms)} to {_day(end_ms)} (UTC)", color=INK, x=0.01, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flat
    for number, (panel, (name, curve)) in enumerate(zip(panels, curves.items(), strict=False)):
        _panel(panel, name, curve, peaks[name], (start_ms, end_ms), COLOURS[number % len(COLOURS)])
        locator = dates.AutoDateLocator(tz=UTC, minticks=3, maxticks=7)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))
    for panel in list(figure.axes)[len(curves) :]:
        panel.set_visible(False)
    for panel in list(figure.axes)[max(len(curves) - columns, 0) : len(curves)]:
        panel.tick_params(labelbottom=True)
    try:
        figure.savefig(file, dpi=144)
    except OSError as error:
        raise ConfigurationError(f"cannot draw into {file}: {error.strerror}") from error


def _panel(panel: Any, name: str, curve: Curve, peak: int, span: tuple[int, int], colour: str) -> None:
    """One audience: the number of members as steps over an area."""
    instants, numbers = curve.line()
    start_ms, end_ms = span
    moments = [_moment(max(at_ms, start_ms)) for at_ms in (start_ms, *instants, end_ms)]
    values = [0, *numbers, numbers[-1] if numbers else 0]
    panel.fill_between(moments, values, step="post", color=colour, alpha=0.18, linewidth=0)
    panel.step(moments, values, where="post", color=colour, linewidth=1.2)
    panel.set_xlim(_moment(start_ms), _moment(max(end_ms, start_ms + 1)))
    panel.set_ylim(0, max(peak, 1) * 1.12)
    panel.set_title(name, loc="left", fontsize=9, color=INK, fontweight="bold")
    panel.set_title(f"at most {peak:,}   end {values[-1]:,}", loc="right", fontsize=8, color=FAINT)
    panel.tick_params(labelsize=7, colors=FAINT, length=2)
    panel.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    panel.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(FAINT)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _day(ms: int) -> str:
    return f"{_moment(ms):%Y-%m-%d %H:%M}"
