"""The report of a plan as tables for people.

Owns: the text. Not here: what it says (opportune.audiences.plan_report), what a change of definitions does to a state
(opportune.cli.check_state).
"""

from __future__ import annotations

from collections.abc import Sequence

from opportune.audiences.diagnostics import printable
from opportune.audiences.plan_report import PlanReport

LISTED_MAX = 4


def plan_text(report: PlanReport) -> str:
    """The text of a report."""
    shared = [feature for feature in report.features if feature.conditions > 1]
    lines = [
        f"{report.conditions} conditions of {report.audiences} audiences come down to {len(report.features)} features, "
        f"{len(shared)} of them shared, {len(report.traits)} traits and "
        f"{sum(map(len, report.columns.values()))} columns.",
        f"A person who has all of the features takes at most {report.bytes_max:,} bytes for them.",
        "",
    ]
    rows = [("feature", "keeps", "bytes", "beyond that", "read by")]
    for feature in report.features:
        name = feature.event + (f" where {feature.where}" if feature.where else "")
        rows.append((name, feature.keeps, str(feature.bytes_max), feature.error, _listed(feature.audiences)))
    lines += [*_table(rows), ""]
    handled = [("message", "features", "groups read", "audiences that it may change")]
    for message in report.messages:
        changed = f"{message.features}{' and traits' if message.traits else ''}"
        handled.append((message.event, changed, str(message.groups_read), _listed(message.audiences, count=True)))
    lines += _table(handled)
    lines += ["", "A message of any other kind touches nothing and is not looked at further."]
    return "\n".join(lines)


def _listed(names: Sequence[str], *, count: bool = False) -> str:
    more = len(names) - LISTED_MAX
    text = ", ".join(names[:LISTED_MAX]) + (f" and {more} more" if more > 0 else "")
    return f"{len(names)}: {text}" if count and names else text or "nobody"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns side by side; the last is not padded."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [min(max(len(row[place]) for row in shown), 60) for place in range(len(shown[0]) - 1)]
    return [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in shown
    ]
