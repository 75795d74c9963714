"""Random logs for property tests: messages that collide, clocks that disagree, and what happens to a process.

Owns: the strategies ``messages`` (raw records for a replay) and ``lives`` (steps of a live run: records in batches from
several partitions, time that passes, restarts, records delivered again).
Invariant: in a partition arrivals never fall, and no record arrives before an instant to which time has been advanced.
Not here: projects (tests.model.projects).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import TypeAlias

from hypothesis import strategies as st

from tests.oracle.builders import DAY_0, encode
from tests.oracle.instants import write_instant

PARTITIONS = 3
STEPS_MS = (0, 0, 0, 0, 1, 1, 1, 2, 3, 5, 9, 10, 49, 50, 59_999, 60_000, 120_000)
SKEWS_MS = (0, 0, 0, 0, 0, -1, -2, -3, -10, -49, -51, -60_000, 1, 5, 60_000, 4_000_000_000)
PROPERTIES: dict[str, tuple[object, ...]] = {
    "p": (0, 1, 2, Decimal("1.50"), Decimal("0.1"), 10**20, Decimal("1E+30"), "1", "a", "ab", True, None, [], {}),
    "q": (
        "a",
        "b",
        "ab",
        "",
        "\u00e9",
        "\U0001f600",
        1,
        False,
        Decimal("1.0000000001"),
        Decimal("-0.0"),
        Decimal("1E-12"),
    ),
    "list": (["a", "b"], [1, "a"], [], [True], ["ab"], ["a", None], [["a"], [[1]]], [{"x": 1}], "a", 2),
    "items": (
        [{"sku": "a"}, {"sku": "ab"}],
        [{"sku": 1}],
        [{}],
        [],
        {"sku": "b"},
        "a",
        [{"sku": ["a", "b"]}],
        [{"sku": ["ab"]}],
        [[{"sku": "a"}], 5],
    ),
    "o": ({"x": 1}, {"x": "a"}, {"x": None}, {"x": []}, {}, "a", 1),
    "lat": (0, Decimal("0.001"), Decimal("0.0012"), 1, "0", None),
    "lon": (0, Decimal("0.001"), 181),
    "when": (write_instant(DAY_0), write_instant(DAY_0 + 1), "2023-11-14T22:13:20.0019Z", "a", 5, None),
}
TRAITS: dict[str, tuple[object, ...]] = {
    "plan": ("a", "b", "ab", None, 1, ["a", "b"]),
    "n": (0, 1, 2, Decimal("1.5"), None, "1", True),
    "timezone": ("Asia/Tokyo", "America/New_York", "Nowhere", ["UTC"], None),
    "address": ({"city": "a"}, {"city": "b"}, {}, None, "a"),
}
PEOPLE: tuple[dict[str, object], ...] = (
    {"userId": "u1"},
    {"userId": "u1"},
    # A device of nobody else: the evaluator does not merge people (tests.simulation and tests/language/identity do).
    {"userId": "u1", "anonymousId": "d9"},
    {"userId": "u2"},
    {"userId": 3},
    {"userId": "3"},
    {"userId": None, "anonymousId": "d1"},
    {"userId": "", "anonymousId": "d1"},
    {"userId": "NULL", "anonymousId": "d2"},
    {"userId": " u1 "},
    {"userId": Decimal("3.0")},
)
NOBODY: tuple[dict[str, object], ...] = ({}, {"userId": "0"}, {"userId": None, "anonymousId": "undefined"})
GARBAGE = (b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"type":"track","event":"A","userId":"u1"', b"17")


TRACKED = ("A", "A", "A", "A", "A", "B", "B", "C", "D")
NAMES: list[dict[str, object]] = [
    *(dict[str, object](type="track", event=name) for name in TRACKED),
    *(dict[str, object](type="page", name=name) for name in ("home", "other", None)),
    {"type": "screen", "name": "home"},
    {"type": "group"},
]
IDS: list[dict[str, object]] = [
    *({},) * 6,
    {"messageId": None},
    {"messageId": ""},
    *(dict[str, object](messageId=f"m{number}") for number in range(4)),
    {"messageId": 7},
    {"messageId": "7"},
]
ODD: list[dict[str, object]] = [
    {"properties": "a"},
    {"properties": []},
    {"properties": None},
    {"context": [], "traits": "a"},
    {"context": {"traits": 5}, "traits": None},
    {"event": 5, "name": 5},
    {"event": None, "name": ["home"]},
    {"userId": True},
    {"userId": ["u1"]},
    {"anonymousId": {}},
    {"messageId": []},
    {"messageId": False},
    {"type": 5},
    {"type": None},
    {"type": "Track"},
    {"sentAt": "soon"},
    {"receivedAt": 5},
    {"unknown": {"deep": [[[[{}]]]]}},
]
"""Fields of types that nobody expects; at most one of them is a reason to refuse the message."""
WRITTEN = (
    lambda text: text,
    lambda text: text[:-1],
    lambda text: text[:-1] + "+00:00",
    lambda text: text[:-1] + "9999Z",
    lambda text: text.replace("T", " "),
    lambda text: text.replace(".", ","),
    lambda text: text.replace("22:", "23:")[:-1] + "+01:00",
    lambda text: text.replace("22:", "21:")[:-1] + "-0100",
    lambda text: text[:19] + "Z",
    lambda text: text[:16] + "Z",
    lambda text: text[:10],
)
"""Ways of writing an instant, some of them cut."""


@dataclass(frozen=True)
class Sent:
    """A message without its clocks: the body, how its times are told, and by how much they are off."""

    body: dict[str, object]
    form: str
    skew_ms: int
    receipt_ms: int
    writing: int

    def at(self, sent_ms: int) -> bytes:
        """The record of the message, sent at an instant of the true clock."""
        told = sent_ms + self.skew_ms
        times = {
            "timestamp": {"timestamp": told},
            "both": {"timestamp": told, "receivedAt": sent_ms + self.receipt_ms},
            "corrected": {"originalTimestamp": told, "sentAt": told + 5, "receivedAt": sent_ms + self.receipt_ms},
            "original": {"originalTimestamp": told},
            "received": {"receivedAt": told},
            "none": {},
        }[self.form]
        written = {name: WRITTEN[self.writing](write_instant(at)) for name, at in times.items()}
        return encode({**written, **self.body})


FORMS = ("timestamp",) * 6 + ("both", "corrected", "original", "received", "none")
BAD = (
    *GARBAGE,
    encode({"type": "track", "event": "A", "userId": "u1", "timestamp": "yesterday"}),
    encode({"type": "track", "event": "A", "userId": "u1", "timestamp": 5}),
    encode({"type": "trakc", "event": "A", "userId": "u1", "timestamp": "2023-11-14"}),
)


def _some(random: Random, values: dict[str, tuple[object, ...]]) -> dict[str, object]:
    return {name: random.choice(each) for name, each in values.items() if random.random() < 0.5}


def _call(random: Random) -> dict[str, object]:
    chance = random.random()
    if chance < 0.15:
        return {"type": "identify", "traits": _some(random, TRAITS)}
    if chance < 0.2:
        return {"type": "identify", "context": {"traits": _some(random, TRAITS)}}
    call = {**random.choice(NAMES), "properties": _some(random, PROPERTIES)}
    if chance < 0.3:
        call |= {"context": {"c": random.choice(["a", 1])}, "traits": {"t": random.choice([1, "b"])}}
    return call


def sent_of(seed: int) -> Sent | bytes:
    """The message of a number: each record is one number, so that logs are long, quick to make and easy to cut short."""
    random = Random(seed)
    if random.random() < 0.05:
        return random.choice(BAD)
    lot = random.random()
    body = {**_call(random), **random.choice(PEOPLE if lot < 0.97 else NOBODY), **random.choice(IDS)}
    if lot < 0.05 or lot >= 0.97:
        # Nothing else is wrong with these, so that there is one reason to refuse them.
        return Sent(body | (random.choice(ODD) if lot < 0.05 else {}), "timestamp", 0, 0, 0)
    writing = random.randrange(len(WRITTEN)) if lot < 0.15 else 0
    return Sent(body, random.choice(FORMS), random.choice(SKEWS_MS), random.choice((0, 0, 5, -3, 60_000)), writing)


SOME = st.integers(0, 2**16 - 1).map(sent_of)
AGAIN = st.sampled_from([None] * 10 + [0, 1, 3])


def crowded_of(seed: int) -> Sent | bytes:
    """The message of a number where most are of one person and one kind, so that a feature has many of them."""
    random, sent = Random(seed), sent_of(seed)
    if isinstance(sent, bytes) or random.random() < 0.2:
        return sent
    properties = {"p": random.choice((0, 1, 2, Decimal("1.50"), Decimal("0.1"), -1)), **_some(random, MANY)}
    body: dict[str, object] = {
        "type": "track",
        "event": random.choice("AAAAB"),
        "userId": "u1",
        "properties": properties,
    }
    return replace(sent, body=body, skew_ms=random.choice((0, 0, 0, -1, -5, -20, -9_000, -60_000)))


MANY = {"q": (*"abcdefghijklmnopqrst", 1), "list": ([*"abcdefghij"], [1, 2, 3]), "lat": (0, 1), "lon": (0, 1)}
CROWDED = st.integers(0, 2**16 - 1).map(crowded_of)
CLOSE_MS = (0, 0, 1, 1, 2, 3, 5, 9, 2_000, 7_000)
"""Steps by which many events come into windows of milliseconds, and of minutes."""


@st.composite
def messages(
    draw: st.DrawFn,
    size: int = 40,
    some: st.SearchStrategy[Sent | bytes] = SOME,
    steps_ms: tuple[int, ...] = STEPS_MS,
) -> list[bytes]:
    """Raw records in arrival order, among them some that are there twice."""
    raws: list[bytes] = []
    sent_ms = DAY_0
    least = draw(st.integers(0, size))
    moments = st.lists(st.tuples(st.sampled_from(steps_ms), some, AGAIN), min_size=least, max_size=size)
    for step_ms, sent, again in draw(moments):
        sent_ms += step_ms
        raws.append(sent if isinstance(sent, bytes) else sent.at(sent_ms))
        if again is not None and again < len(raws):
            raws.append(raws[-1 - again])
    return raws


@dataclass(frozen=True)
class LogRecord:
    """A record of the events topic; ``arrival_ms`` is its Kafka timestamp."""

    partition: int
    offset: int
    arrival_ms: int
    raw: bytes


@dataclass(frozen=True)
class Feed:
    """Records that come in one batch."""

    records: tuple[LogRecord, ...]


@dataclass(frozen=True)
class Advance:
    """Log time has been confirmed up to here, exclusive."""

    time_ms: int


@dataclass(frozen=True)
class Restart:
    """The process dies and comes back; ``again``: how many of the last records of the log it is given once more."""

    again: int


@dataclass(frozen=True)
class Commit:
    """An epoch ends: what was sent needs not be sent again."""


Step: TypeAlias = Feed | Advance | Restart | Commit


@dataclass(frozen=True)
class Life:
    """A live run: its steps, and the instant at which it ends, exclusive."""

    steps: tuple[Step, ...]
    end_ms: int

    def records(self) -> list[LogRecord]:
        """All records in the order in which they came, each once."""
        return [record for step in self.steps if isinstance(step, Feed) for record in step.records]


KINDS = ("record",) * 12 + ("cut", "cut", "cut", "advance", "advance", "commit", "restart")
LAGS_MS = (0, 0, 0, 1, 3, 50)


@st.composite
def lives(
    draw: st.DrawFn,
    size: int = 50,
    some: st.SearchStrategy[Sent | bytes] = SOME,
    steps_ms: tuple[int, ...] = STEPS_MS,
) -> Life:
    """A live run over three partitions."""
    moment = st.tuples(st.sampled_from(KINDS), some, st.integers(0, 9), st.sampled_from(LAGS_MS))
    steps: list[Step] = []
    batch: list[LogRecord] = []
    clock_ms, confirmed_ms = DAY_0, DAY_0
    arrived_ms, offsets = [DAY_0] * PARTITIONS, [0] * PARTITIONS
    least = draw(st.integers(0, size))
    moments = draw(st.lists(st.tuples(st.sampled_from(steps_ms), moment), min_size=least, max_size=size))
    for step_ms, (kind, sent, number, lag_ms) in [*moments, (0, ("cut", b"", 0, 0))]:
        clock_ms += step_ms
        if kind == "record":
            partition = number % PARTITIONS
            arrived_ms[partition] = max(arrived_ms[partition], confirmed_ms, clock_ms - lag_ms)
            raw = sent if isinstance(sent, bytes) else sent.at(clock_ms)
            batch.append(LogRecord(partition, offsets[partition], arrived_ms[partition], raw))
            offsets[partition] += 1
            continue
        if batch:
            steps.append(Feed(tuple(batch)))
            batch = []
        if kind == "advance":
            confirmed_ms = max(confirmed_ms, clock_ms - lag_ms)
            steps.append(Advance(confirmed_ms))
        elif kind == "restart":
            steps.append(Restart(number))
        elif kind == "commit":
            steps.append(Commit())
    return Life(tuple(steps), clock_ms + draw(st.sampled_from((1, 2, 51, 60_001, 1_000_000))))
