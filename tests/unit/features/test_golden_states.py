"""What features keep is written as ever.

Where a change is meant: raise FORMAT_VERSION (state.keys), say it in CHANGELOG.md, and write the new file by hand.
Not here: the other durable values (tests.unit.state.test_golden).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opportune.audiences.schema import (
    AbsentCondition,
    AggregateValue,
    EventModel,
    SequenceCondition,
    Span,
    Step,
    Window,
)
from opportune.audiences.schema import Path as At
from opportune.features.absences import Absence
from opportune.features.aggregates import FUNCTIONS, Aggregate
from opportune.features.limits import Limits
from opportune.features.sequences import Sequence
from opportune.features.sessions import Sessions

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "state" / "features.txt"
MODEL = EventModel("A", "track", "A")
STEP = Step(MODEL, (), by=At("properties", ("x",)))
SPAN = Span("a.yml", 1, 1)
WINDOWS = {"ever": Window(), "hour": Window("duration", 3_600_000)}
FEW = Limits(entries=2, hops=8, sketches=8)
NOW = 1_700_000_000_000
VALUES = (Decimal("12.5"), -3, 2**70, "a text", "x" * 65, True, 7)


def aggregate(function: str, window: Window, limits: Limits) -> list[Any]:
    path = None if function == "count" else STEP.by
    kind = Aggregate(AggregateValue(MODEL, (), function, path, instants=False, window=window), 0, 0, limits)
    cell: list[Any] = []
    for place, value in enumerate(VALUES):
        kind.put(cell, value, NOW + place * 200_000, NOW + place * 200_000, None)
    return cell


def states() -> dict[str, list[Any]]:
    """A state of each kind, few and many."""
    found = {
        f"{function} {name} {most}": aggregate(function, window, limits)
        for function in ("count", *FUNCTIONS)
        for name, window in WINDOWS.items()
        for most, limits in (("few", Limits()), ("many", FEW))
        if not (function == "distinct" and most == "many")
    }
    for most, limits in (("few", Limits()), ("many", FEW)):
        sequence = Sequence(SequenceCondition((STEP, STEP), WINDOWS["hour"], None, 0, SPAN), 0, 0, limits)
        absence = Absence(AbsentCondition(STEP, STEP, 1_000, WINDOWS["hour"], SPAN), 0, 0, limits)
        for name, kind in (("sequence", sequence), ("absent", absence)):
            cell = found[f"{name} hour {most}"] = []
            for place, value in enumerate(VALUES):
                kind.put(cell, 1 + place % 2, (value, value), NOW + place, NOW + place, None)
    happened = Sequence(SequenceCondition((STEP, STEP), Window(), None, 0, SPAN), 0, 0)
    found["sequence ever"] = []
    for t in (NOW, NOW + 1):
        happened.put(found["sequence ever"], 3, ("a", "a"), t, t, None)
    found["sessions"] = []
    for t in (NOW, NOW + 5, NOW + 100_000):
        Sessions(1_000, 10_000_000).put(found["sessions"], t, t)
    return found


def test_states_are_written_as_ever() -> None:
    lines = [f"{name}: {msgspec.msgpack.encode(cell).hex()}" for name, cell in states().items()]
    assert lines == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize("limits", [Limits(), FEW], ids=["few", "many"])
def test_sketches_are_read_as_ever(limits: Limits) -> None:
    """Of 3,000 values: what the library keeps beside them may depend on its release, what they say may not."""
    kind = Aggregate(AggregateValue(MODEL, (), "distinct", STEP.by, instants=False, window=Window()), 0, 0, limits)
    cell = msgspec.msgpack.decode(bytes.fromhex((GOLDEN.parent / "sketch.hex").read_text()))
    assert kind.look(cell, NOW, None)[0] == 3_007
    for each in range(3_000):
        kind.put(cell, f"value {each}", NOW, NOW, None)
    assert kind.look(cell, NOW, None)[0] == 3_007
