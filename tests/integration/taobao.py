"""The Taobao behaviour data as Segment-style messages, and a warehouse table of its people.

Owns: how a row becomes messages. What the data set does not have (prices, titles, traits, attributes, devices) is derived
from the ids, so that every run makes the same bytes. Some messages come twice, some late, some people are anonymous.
Not here: the project (tests/projects/taobao), what is compared (tests.integration.test_taobao).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zlib import crc32

from tests.oracle.history import Tables
from tests.oracle.instants import read_instant, write_instant

PROJECT = Path(__file__).resolve().parents[1] / "projects" / "taobao"
SHARED = Path(os.environ.get("OPPORTUNE_SHARED_DATA") or PROJECT.parents[3] / "shared" / "data")
BEHAVIOUR = SHARED / "taobao_behavior.csv"
NAMES = {"pv": "Product Viewed", "cart": "Product Added", "fav": "Product Favourited", "buy": "Order Completed"}
KINDS = ("shoe", "hat", "bag", "lamp")
TAGS: tuple[list[str], ...] = (["red"], ["red", "sold out"], ["blue", "red"], [], ["dark red"])
LATE_BY = 20


def chance(*parts: object) -> int:
    """A number that looks random, the same in every run."""
    return crc32(":".join(map(str, parts)).encode())


def messages() -> Iterator[bytes]:
    """All records in arrival order: the rows, some a little late, some twice, with identify and page calls between."""
    held: list[tuple[int, bytes]] = []
    for number, made in enumerate(_in_time()):
        while held and held[0][0] <= number:
            yield held.pop(0)[1]
        if chance("late", number) % 101 == 0:
            held.append((number + LATE_BY, made))
            continue
        yield made
        if chance("twice", number) % 97 == 0:
            held.append((number + LATE_BY, made))
    for _, made in held:
        yield made


def _in_time() -> Iterator[bytes]:
    known: set[str] = set()
    with BEHAVIOUR.open(encoding="ascii", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            person, at_ms = row["user_id"], int(row["ts"]) * 1000
            if person not in known:
                known.add(person)
                yield _message(f"i{number}", person, at_ms, {"type": "identify", "traits": _traits(person)})
            lot = chance("between", number)
            if lot % 5 == 0:
                traits = {"newsletter": lot % 3 > 0, "address": {"city": "Seaside"} if lot % 7 else None}
                yield _message(f"c{number}", person, at_ms, {"type": "identify", "context": {"traits": traits}})
            if lot % 6 == 0:
                yield _message(f"p{number}", person, at_ms, {"type": "page", "name": "home" if lot % 4 else "about"})
            yield _message(f"m{number}", person, at_ms + lot % 1000, _track(number, row))


def _message(message_id: str, person: str, at_ms: int, call: dict[str, object]) -> bytes:
    # One person in twenty never signs in; numbers and texts are one identifier.
    lot = chance("who", person) % 20
    who = {"anonymousId": person} if lot == 0 else {"userId": int(person) if lot < 5 else person}
    return json.dumps({"messageId": message_id, "timestamp": write_instant(at_ms), **who, **call}).encode()


def _track(number: int, row: dict[str, str]) -> dict[str, object]:
    item = int(row["item_id"])
    lot = chance("item", item)
    properties: dict[str, object] = {
        "item_id": item,
        "category_id": row["category_id"],
        "price": lot % 10_000 / 100,
        "title": f"{KINDS[lot % len(KINDS)]}-{item % 1000}",
        "tags": TAGS[lot % len(TAGS)],
        "listed_at": datetime.fromtimestamp(1_509_000_000 + lot % 2_000_000, UTC).isoformat(),
    }
    if lot % 3 == 0:
        properties["coupon"] = f"C{lot % 10}"
    context: dict[str, object] = {"device": {"type": ("phone", "tablet", "desktop")[chance(number) % 3]}}
    if lot % 4 == 0:
        context["campaign"] = "spring" if lot % 8 else "autumn"
    return {"type": "track", "event": NAMES[row["behavior"]], "properties": properties, "context": context}


def _traits(person: str) -> dict[str, object]:
    lot = chance("traits", person)
    return {
        "locale": ("de", "fr", "en", "zh")[lot % 4],
        "newsletter": lot % 3 == 0,
        "interests": (["sailing", "chess"], ["chess"], [])[lot % 3],
        "address": {"city": ("Seattle", "Paris", "Seaford")[lot % 3]},
    }


def customers() -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of the table: key, plan, score, since, vip; of half of the people, and of some who never come."""
    with BEHAVIOUR.open(encoding="ascii", newline="") as file:
        people = dict.fromkeys(row["user_id"] for row in csv.DictReader(file))
    for person in [*people, *(f"absent{number}" for number in range(500))]:
        lot = chance("customer", person)
        if lot % 2:
            since = datetime.fromtimestamp(1_350_000_000 + lot % 150_000_000, UTC).isoformat()
            score = "" if lot % 11 == 0 else f"{lot % 9000 / 100}"
            yield person, ("free", "pro", "team", "")[lot // 2 % 4], score, since, "true" if lot % 5 == 0 else "false"


def write_customers(path: Path) -> None:
    """Writes the table as CSV."""
    with path.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "plan", "score", "since", "vip"))
        writer.writerows(customers())


def tables() -> Tables:
    """The table as the reference evaluator takes it."""
    rows: dict[str, dict[str, str | int | Decimal | bool | None]] = {}
    for person, plan, score, since, vip in customers():
        rows[person] = {
            "plan": plan or None,
            "score": Decimal(score) if score else None,
            "since": read_instant(since),
            "vip": vip == "true",
        }
    return {"customers": dict(rows)}
