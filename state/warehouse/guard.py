"""What a refresh may not do unasked: lose many people, or change much of what conditions read.

Owns: the judgement of a new snapshot against the one before it. The classic accident is a table that is empty for a
minute: without a guard it makes everybody leave every audience.
Not here: the figures (state.warehouse.differences), confirming (state.warehouse.shelf).
"""

from __future__ import annotations

from operator import itemgetter

from opportune.audiences.schema import Guard
from state.warehouse.differences import Figures


def objection(found: Figures, guard: Guard) -> str:
    """Why a snapshot has to be confirmed before it comes into force; empty: it has not.

    Args:
        found: its difference from the one before.
        guard: what the table's definition allows, as shares from 0 to 1.
    """
    if not found.before:
        return ""
    lost = found.gone / found.before
    if lost > guard.rows_lost:
        return (
            f"{found.gone:,} of {found.before:,} rows are gone ({lost:.1%}), and `guard.rows_lost` allows "
            f"{guard.rows_lost:.1%}"
        )
    cells = (found.before - found.gone) * len(found.cells)
    share = sum(found.cells.values()) / cells if cells else 0.0
    if share > guard.cells_changed:
        worst, count = max(found.cells.items(), key=itemgetter(1))
        return (
            f"{share:.1%} of the values that conditions use differ (most in column {worst!r}: {count:,}), and "
            f"`guard.cells_changed` allows {guard.cells_changed:.1%}"
        )
    return ""
