"""What a replay has taken and not applied yet, in layers, so that identifiers meet their profile in time and all together.

Owns: which layer an event waits in. An event that brings its person a new identifier counts after the two have met: it is
introduced, by a copy without an action, before it is applied. To do that one by one would cost several rounds of mail each.
People who share no identifier, not even by others, are **strangers**: what is done with one touches nothing of the other.
So the introductions of strangers are done together: a layer is at most one introduction for all who know each other, then
events. Whoever has something in a layer already is introduced in the next.
Invariants: layers are applied in their order, and time stands still between them; events of people who know each other are
in an order of layers that is theirs of arrival. Memory follows the identifiers that came with others.
Not here: applying (flows.replay), what an introduction does (flows.identity.graph).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from operator import add, gt

from opportune.decode import Event
from opportune.people import Person, is_known

KNOWN_MAX = 64
"""Beyond so many identifiers of people who know each other, an introduction is done alone: all that waits is applied before."""


class Layer:
    """Introductions, and the events behind them.

    Attributes:
        introductions: copies of events, without actions.
        concerned: the ids of all whom these may concern, each with the instant of the introduction.
        events: in order of arrival for people who know each other.
    """

    __slots__ = ("concerned", "events", "introductions")

    def __init__(self) -> None:
        self.introductions: list[Event] = []
        self.concerned: list[tuple[bytes, int]] = []
        self.events: list[Event] = []


class Layers:
    """What waits.

    Args:
        limits: by the rank of a namespace, how many identifiers of it a profile may have.

    Attributes:
        first: the events of the first layer.
        depth: by who they know, the last layer that has something of people; None while nobody waits to be introduced.
    """

    def __init__(self, limits: Sequence[int]) -> None:
        self.limits = limits
        self.groups: dict[bytes, list[bytes]] = {}
        self.ranks: dict[bytes, list[int]] = {}
        self._empty()

    def _empty(self) -> None:
        self.layers = [Layer()]
        self.first = self.layers[0].events
        self.depth: dict[bytes, int] | None = None
        self.claimed: dict[bytes, bytes] = {}
        self.more = 0

    def __len__(self) -> int:
        """How many events wait."""
        return len(self.first) + self.more

    def take(self) -> list[Layer]:
        """All layers; nothing waits then."""
        taken = self.layers
        self._empty()
        return taken

    def put(self, event: Event) -> None:
        """Leaves an event behind what waits of its people."""
        if self.depth is None:
            self.first.append(event)
            return
        group = self._group(event.person)
        layer = self.depth.setdefault(group, 0)
        self.layers[layer].events.append(event)
        self.more += bool(layer)

    def is_known(self, person: Person, others: tuple[Person, ...]) -> bool:
        """As ``opportune.people.is_known``, once what waits is applied."""
        claimed = self.claimed
        if not claimed:
            return is_known(person, others)
        for other in others:
            claimer = claimed.get(other.id)
            if other.owner is not person if claimer is None else claimer != person.id:
                return False
        return person.known or person.id in claimed

    def is_alone(self, event: Event) -> bool:
        """Whether an introduction is to be done alone: very many know each other then, or cannot all be one person.

        What one of those has, another may lose, or not be given: it is to be seen before the next event.
        """
        counts, many = self._counts((event.person, *event.also))
        return many > KNOWN_MAX or any(map(gt, counts, self.limits))

    def introduce(self, event: Event, now: int) -> None:
        """An event brings new identifiers: what comes of that waits in a layer of its own people."""
        depth = self.depth
        if depth is None:
            depth = self.depth = {self._group(each.person): 0 for each in self.first}
        people = (event.person, *event.also)
        before = [depth.get(self._group(one)) for one in people]
        layer = max((at + 1 for at in before if at is not None), default=0)
        group = self._unite(people)
        depth[group[0]] = layer
        if layer == len(self.layers):
            self.layers.append(Layer())
        first = copy(event)
        first.handler = None
        self.layers[layer].introductions.append(first)
        self.layers[layer].concerned += [(one, now) for one in group]
        for other in event.also:
            self.claimed[other.id] = event.person.id
        self.claimed.setdefault(event.person.id, event.person.id)

    def _group(self, person: Person) -> bytes:
        """What stands for all who know a person."""
        group = self.groups.get(person.id)
        return person.id if group is None else group[0]

    def _unite(self, people: tuple[Person, ...]) -> list[bytes]:
        """From here on these know each other, and all whom they know."""
        groups = self.groups
        theirs = {one[0]: one for one in (groups.get(person.id) or [person.id] for person in people)}
        counts, _ = self._counts(people)
        for root in theirs:
            self.ranks.pop(root, None)
        *smaller, largest = sorted(theirs.values(), key=len)
        for group in smaller:
            largest += group
            for one in group:
                groups[one] = largest
        groups.setdefault(largest[0], largest)
        self.ranks[largest[0]] = counts
        return largest

    def _counts(self, people: tuple[Person, ...]) -> tuple[list[int], int]:
        """How many identifiers those have who know some of these, by rank and in all."""
        counts, met = [0] * len(self.limits), set[bytes]()
        for person in people:
            root = self._group(person)
            if root in met:
                continue
            met.add(root)
            ranks = self.ranks.get(root)
            if ranks is None:
                counts[person.rank] += 1
            else:
                counts = list(map(add, counts, ranks))
        return counts, sum(counts)
