"""The audiences of each measurement, as definitions and as what an event touches.

Owns: the sets ``one``, ``hundred``, ``ten``, ``thousand``, ``storm`` and ``memory``, and the mean number of audiences
that an event touches, computed from the same source as the definitions (``touched``), so that a table can state it.
Not here: the project directory around them (bench.projects), the traffic that they meet (bench.events).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from bench.events import PRICING, SHOP, Events, Traffic

Node: TypeAlias = dict[str, Any]
Weights: TypeAlias = tuple[tuple[str, float], ...]

ACTIONS: Final[Weights] = tuple((f"Action {i:03d}", 1.0) for i in range(200))
"""Two hundred events that come equally often."""
FEATURES: Final = 12
"""Features of the ``memory`` set; every person of its traffic fills all of them."""
STORM: Final = "Offer Shown"


@dataclass(frozen=True)
class Leaf:
    """A count of an event, perhaps only above or below a price.

    Args:
        event: the event's name.
        times: the predicate on the count, as in a definition.
        within: the window; None is ever.
        above: only events with a greater ``properties.price``.
        below: only events with a smaller one.
    """

    event: str
    times: Any
    within: str | None = None
    above: float | None = None
    below: float | None = None

    def node(self) -> Node:
        """The condition as in an audience file."""
        out: Node = {"event": self.event, "times": self.times, "within": self.within or "ever"}
        if self.above is not None:
            out["where"] = {"price": {"gt": self.above}}
        if self.below is not None:
            out["where"] = {"price": {"lt": self.below}}
        return out

    def matches(self, traffic: Traffic, events: Events) -> Any:
        """Which of the events it counts, as a mask."""
        known = traffic.names.index(self.event) if self.event in traffic.names else -1
        mask = events.names == known
        if self.above is not None:
            mask &= events.prices > self.above
        if self.below is not None:
            mask &= events.prices < self.below
        return mask


@dataclass(frozen=True)
class Definition:
    """An audience: its condition and the leaves in it, those of nested audiences included."""

    name: str
    when: list[Node]
    leaves: tuple[Leaf, ...] = ()

    def document(self) -> Node:
        """The audience as in an audience file."""
        return {"name": self.name, "when": {"all": self.when}}


def _plan(*plans: str) -> Node:
    return {"attribute": "plan", "is": plans[0] if len(plans) == 1 else list(plans)}


def _simple(name: str, leaf: Leaf, *others: Node) -> Definition:
    return Definition(name, [leaf.node(), *others], (leaf,))


def one() -> list[Definition]:
    """Three pricing views in ten minutes, and on the free plan."""
    return [_simple("pricing_intent", Leaf(PRICING, ">= 3", "10 minutes"), _plan("free"))]


def hundred() -> list[Definition]:
    """A hundred of mixed kinds over the shop's events: windows of a minute to 30 days and ever, every form of ``times``."""
    out = []
    for i, (event, _) in enumerate(SHOP):
        out += [
            _simple(f"active_{i:02d}", Leaf(event, ">= 3", "10 minutes"), _plan("free")),
            _simple(f"browsing_{i:02d}", Leaf(event, {"gte": 3, "lte": 8}, "1 hour")),
            _simple(f"premium_{i:02d}", Leaf(event, ">= 5", "30 days", above=55.0)),
            _simple(f"bargain_{i:02d}", Leaf(event, 2, "1 minute", below=45.0), _plan("pro", "team")),
        ]
    names = [event for event, _ in SHOP]
    for i, event in enumerate(names[2:10]):
        often, bought = Leaf(event, ">= 10"), Leaf("Order Completed", ">= 1", "7 days")
        out.append(Definition(f"undecided_{i}", [often.node(), {"none": [bought.node()]}], (often, bought)))
    for i, event in enumerate(names[:4]):
        day, cart = Leaf(event, ">= 4", "1 day"), Leaf("Product Added", ">= 2", "2 hours")
        out.append(Definition(f"warm_{i}", [{"any": [day.node(), {"all": [cart.node(), _plan("pro")]}]}], (day, cart)))
    adding = next(d for d in out if d.leaves[0].event == "Product Added")
    search = Leaf("Product Searched", ">= 1", "30 minutes")
    for i, minutes in enumerate((15, 30, 60, 120)):
        more = Leaf("Product Searched", ">= 2", f"{minutes} minutes")
        nested: Node = {"audience": adding.name}
        out.append(Definition(f"nested_{i}", [nested, more.node()], (*adding.leaves, more)))
    for i, country in enumerate(("FR", "DE")):
        where: Node = {"attribute": "country", "is": country}
        out.append(Definition(f"searching_{i}", [where, search.node()], (search,)))
    out.append(Definition("enterprise", [_plan("enterprise")]))
    out.append(Definition("small_country", [{"attribute": "country", "is": "LU"}, {"none": [_plan("free")]}]))
    return out


def nothing() -> list[Definition]:
    """One audience on an event that never comes."""
    return [_simple("unheard", Leaf("Never Heard Of", ">= 1", "1 hour"))]


def _five(i: int, event: str) -> Iterable[Definition]:
    yield _simple(f"a{i:03d}_free", Leaf(event, ">= 3", "10 minutes"), _plan("free"))
    yield _simple(f"a{i:03d}_day", Leaf(event, ">= 10", "1 day"))
    yield _simple(f"a{i:03d}_pair", Leaf(event, 2, "1 minute"), _plan("pro"))
    yield _simple(f"a{i:03d}_month", Leaf(event, ">= 5", "30 days"))
    yield _simple(f"a{i:03d}_ever", Leaf(event, {"gte": 4, "lt": 20}))


def actions(names: int) -> list[Definition]:
    """Five audiences on each of the first ``names`` actions, so that every event touches five."""
    return [d for i, (event, _) in enumerate(ACTIONS[:names]) for d in _five(i, event)]


def storm(window: str) -> list[Definition]:
    """Whoever was shown an offer within the window; beside it, audiences that the other traffic enters all the time."""
    viewing = _simple("viewing", Leaf("Product Viewed", ">= 1", "10 seconds"))
    return [_simple("offered", Leaf(STORM, ">= 1", window)), viewing, *one()]


def memory() -> list[Definition]:
    """Twelve features on two events, of which every event fills six, whatever its price; nobody ever qualifies."""
    out = []
    for event in ("Action 000", "Action 001"):
        for i in range(FEATURES // 2):
            leaf = Leaf(event, ">= 50", f"{i + 1} days", above=0.5 + i / 100)
            out.append(_simple(f"m_{event[-1]}_{i}", leaf))
    return out


def touched(definitions: Sequence[Definition], traffic: Traffic, count: int = 20_000) -> float:
    """The mean number of audiences that an event of the traffic touches, over its first ``count`` events."""
    events = traffic.build(0, np.zeros(count, np.int64))
    return sum(_mask(d, traffic, events) for d in definitions) / count


def _mask(definition: Definition, traffic: Traffic, events: Events) -> int:
    masks = [leaf.matches(traffic, events) for leaf in definition.leaves]
    return int(np.logical_or.reduce(masks).sum()) if masks else 0
