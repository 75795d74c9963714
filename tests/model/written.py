"""Random projects as they are written, over the whole language: the engine loads them, the reference evaluator reads them.

Owns: the strategy ``written``: the files of a project by path, of which only given kinds of conditions (tests.language.kinds)
are used. Few names and values, so that definitions and events collide; all of it is valid.
Not here: logs (tests.model.logs), projects made without YAML (tests.model.projects).
"""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.language.kinds import KNOWN

Said: TypeAlias = Any
Strategy: TypeAlias = "st.SearchStrategy[Said]"
MODELS: dict[str, Said] = {
    "A": {"type": "track", "properties": {"when": "timestamp", "alias": {"path": "o.x", "type": "string"}}},
    "Small": {"type": "track", "name": "A", "where": {"p": {"lt": 2}}},
    "Home": {"type": "page", "name": "home"},
    "Any page": {"type": "page"},
    "Signed in": {"type": "identify"},
}
EVENTS = ("A", "A", "A", "B", "B", "C", "Small", "Home", "Signed in")
COLUMNS = {"plan": "string", "n": "number", "since": "timestamp", "vip": "boolean"}
TABLES = {"tables": {"customers": {"source": "customers.csv", "key": "user_id", "columns": COLUMNS}}}
PATHS = ("p", "q", "list", "items.sku", "context.c", "traits.t")
KEYS = ("p", "q", "items.sku", "context.c")
DURATIONS = ("1 ms", "2 ms", "3 ms", "5 ms", "10 ms", "50 ms", "1 minute", "2 minutes")
LONGER = {"1 ms": "3 ms", "2 ms": "5 ms", "5 ms": "10 ms", "10 ms": "50 ms", "50 ms": "1 minute"}
ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "America/Sao_Paulo", "profile")
CLOCKS = ("00:00", "01:00", "02:00", "02:30", "03:00", "07:13", "22:14", "23:00")
NUMBERS = (0, 1, 2, 3, 1.5, -1, 0.1)
TEXTS = ("a", "b", "ab", "")
SCALARS = (*NUMBERS, *TEXTS, "1", True, False)
TIMES = (">= 1", ">= 1", ">= 2", ">= 3", 0, 1, 2, "< 2", {"ne": 1}, [1, 3], {"gte": 1, "lt": 3}, {"not_in": [0, 2]})
OPERANDS: tuple[Said, ...] = ({"trait": "n"}, {"trait": "plan"}, {"attribute": "n"}, {"trait": "address.city"})
ORDER = ("gt", "gte", "lt", "lte")
FUNCTIONS = ("sum", "avg", "min", "max", "distinct", "first", "last")


def _some(*values: Said) -> Strategy:
    return st.sampled_from(values)


def _mapping(**fields: Strategy | Said) -> Strategy:
    """A mapping of strategies; a field that draws None is left out."""
    strategies = {
        name.rstrip("_"): each if isinstance(each, st.SearchStrategy) else st.just(each)
        for name, each in fields.items()
    }
    return st.fixed_dictionaries(strategies).map(
        lambda drawn: {name: value for name, value in drawn.items() if value is not None}
    )


def _predicate(values: tuple[Said, ...], operands: Strategy | None = None) -> Strategy:
    """A predicate of one or two comparisons."""
    ordered = tuple(value for value in values if not isinstance(value, bool))
    one: list[Strategy] = [
        st.tuples(_some("eq", "ne"), _some(*values)),
        st.tuples(_some(*ORDER), _some(*ordered)),
        st.tuples(_some("in", "not_in"), st.lists(_some(*values), min_size=1, max_size=3)),
        st.tuples(st.just("exists"), st.booleans()),
    ]
    if any(isinstance(value, str) for value in values):
        one.append(st.tuples(_some("contains", "starts_with", "ends_with"), _some(*TEXTS)))
    if operands is not None:
        one += [st.tuples(_some("eq", "ne", *ORDER), operands)] * 2
    return st.lists(st.one_of(*one), min_size=1, max_size=2).map(dict)


class _Writer:
    """The conditions that a project may use.

    Args:
        kinds: of conditions, beyond counts, values and combinations.
        computed: names of computed traits.
    """

    def __init__(self, kinds: frozenset[str], computed: tuple[str, ...]) -> None:
        self.kinds = kinds
        operands = OPERANDS + tuple({"trait": name} for name in computed)
        self.operands = _some(*operands) if "operand" in kinds else None
        self.computed = computed
        self.windows: list[Strategy] = [st.fixed_dictionaries({"within": _some(*DURATIONS)})] * 4 + [st.just({})]
        self.windows += [st.just({"within": "session"})] * 2 if "session" in kinds else []
        calendar = [each for each in ("day", "week", "month") if each in kinds]
        if calendar:
            self.windows += [_mapping(within=_some(*calendar), timezone=_some(None, *ZONES))] * 2
        self.functions = tuple(each for each in FUNCTIONS if each in kinds)

    def event(self) -> Strategy:
        """An event with its ``where``."""
        value = _predicate(SCALARS)
        where = st.one_of(
            st.none(), st.none(), st.none(), st.dictionaries(_some(*PATHS), value, min_size=1, max_size=2)
        )
        return _mapping(event=_some(*EVENTS), where=where)

    def within(self) -> Strategy:
        """``within``, and its zone."""
        return st.one_of(*self.windows)

    def counted(self) -> Strategy:
        """How often an event happened."""
        return _merged(self.event(), self.within(), _mapping(times=_some(None, *TIMES)))

    def aggregated(self) -> Strategy:
        """An aggregate of a property."""
        numeric = [each for each in self.functions if each not in ("first", "last")]
        parts = []
        if numeric:
            what = st.tuples(_some(*numeric), _some(*PATHS)).map(lambda pair: {pair[0]: pair[1]})
            parts.append(_merged(self.event(), self.within(), what, _mapping(is_=_predicate(NUMBERS, self.operands))))
        if len(self.functions) > len(numeric):
            ends = st.tuples(_some(*(each for each in self.functions if each not in numeric)), _some(*PATHS))
            said = ends.map(lambda pair: {pair[0]: pair[1]})
            parts.append(_merged(self.event(), self.within(), said, _mapping(is_=_predicate(SCALARS, self.operands))))
        return st.one_of(*parts)

    def computed_trait(self, name: str) -> Strategy:
        """An aggregate with a name."""
        what: list[Strategy] = [st.just({"count": True})]
        if self.functions:
            what.append(st.tuples(_some(*self.functions), _some(*PATHS)).map(lambda pair: {pair[0]: pair[1]}))
        # A zone that depends on the trait itself would be a ring.
        within = self.within().filter(lambda said: said.get("timezone") != "profile")
        return _merged(st.just({"name": name}), self.event(), within, st.one_of(*what))

    def pattern(self, kind: str) -> Strategy:
        """A sequence, an absence, a position or hours."""
        if kind == "sequence":
            steps = st.lists(self.event(), min_size=2, max_size=3)
            shape = _mapping(sequence=steps, span=_some(None, None, *DURATIONS), gap=_some(None, None, "1 ms", "3 ms"))
            keyed = _mapping(by=_some(*KEYS), within=_some(*DURATIONS))
            return _merged(shape, st.one_of(self.within(), keyed))
        if kind == "absent":
            shape = _mapping(absent=self.event(), after=self.event())
            lengths = st.sampled_from(sorted(LONGER)).map(lambda text: {"for": text, "within": LONGER[text]})
            ever = _some(*DURATIONS).map(lambda text: {"for": text})
            return _merged(shape, st.one_of(lengths, ever, _merged(lengths, _mapping(by=_some(*KEYS)))))
        if kind == "near":
            place = _mapping(lat=_some(0, 0.001), lon=_some(0, 0.001))
            shape = _mapping(near=place, radius=_some("100 m", "150 m"), leave=_some(None, "200 m"))
            return _merged(shape, self.event(), _mapping(fresh=_some(*DURATIONS)))
        days = st.one_of(st.none(), st.lists(_some("mon", "tue", "wed", "sun"), min_size=1, max_size=3, unique=True))
        clocks = st.tuples(_some(None, *CLOCKS), _some(None, *CLOCKS))
        hours = clocks.filter(lambda pair: (pair[0] or "00:00") != (pair[1] or "24:00"))
        said = hours.map(lambda pair: {k: v for k, v in zip(("from", "to"), pair, strict=True) if v})
        return _merged(said, _mapping(days=days, timezone=_some(None, *ZONES))).map(lambda said: {"during": said})

    def value(self) -> Strategy:
        """A trait or an attribute."""
        names = ("plan", "plan", "n", "address.city", "timezone", *self.computed)
        number, text = _predicate(NUMBERS), _predicate(TEXTS)
        return st.one_of(
            _mapping(trait=_some(*names), is_=_predicate(SCALARS, self.operands)),
            _mapping(attribute="plan", is_=text),
            _mapping(attribute="n", is_=number),
            _mapping(attribute="vip", is_=st.booleans()),
        )

    def condition(self, names: tuple[str, ...], depth: int) -> Strategy:
        """A condition that may name audiences."""
        leaves = [self.counted()] * 4 + [self.value()] * 2
        leaves += [self.aggregated()] * 4 if self.functions else []
        leaves += [self.pattern(kind) for kind in ("sequence", "absent", "near", "during") if kind in self.kinds] * 2
        leaves += [_mapping(audience=_some(*names))] if names else []
        if depth > 1:
            inner = st.lists(st.deferred(lambda: self.condition(names, depth - 1)), min_size=1, max_size=3)
            leaves += [_mapping(all=inner), _mapping(any=inner), _mapping(none=inner)]
        return st.integers(0, len(leaves) - 1).flatmap(lambda number: leaves[number])


def _merged(*parts: Strategy) -> Strategy:
    return st.tuples(*parts).map(lambda drawn: {key: value for part in drawn for key, value in part.items()})


@st.composite
def written(draw: st.DrawFn, kinds: frozenset[str] = frozenset(KNOWN)) -> dict[str, Said]:
    """The files of a project of one to four audiences, of these kinds of conditions."""
    computed = ("n", "t0") if "computed trait" in kinds and draw(st.booleans()) else ()
    writer = _Writer(kinds, computed)
    audiences: list[Said] = []
    for number in range(draw(st.integers(1, 4))):
        names = tuple(each["name"] for each in audiences)
        audiences.append({"name": f"a{number}", "when": draw(writer.condition(names, 3))})
    settings = {
        "name": "test",
        "session": {"gap": draw(_some("2 ms", "5 ms", "1 minute", "30 minutes"))},
        "timezone": draw(_some("UTC", "America/New_York")),
        "clock": {"lateness": draw(_some("24 hours", "24 hours", "50 ms"))},
        "dedupe": {"period": draw(_some("24 hours", "24 hours", "10 ms"))},
    }
    files: dict[str, Said] = {"opportune.yml": settings, "events.yml": MODELS, "warehouse.yml": TABLES}
    files["audiences/all.yml"] = audiences
    if computed:
        files["traits/all.yml"] = [draw(writer.computed_trait(name)) for name in computed]
    return files
