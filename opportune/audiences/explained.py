"""What an explanation is: a tree of conditions with what each saw.

Owns: the structs, as ``opportune explain --format json`` prints them, and ``Value``.
Not here: how they are made (opportune.audiences.explain).
"""

from __future__ import annotations

from typing import Any as Anything

import msgspec

from opportune.profile import NEVER


class Explained(msgspec.Struct, omit_defaults=True):
    """One condition.

    Args:
        asks: what it asks, a sentence.
        holds: whether it holds.
        saw: what it saw, a sentence.
        missing: what is missing, where the answer would be another one without this condition; else empty.
        next_change: when it changes if nothing happens, ISO 8601; None: never.
        value: what it saw, for machines: a count, a value.
        approximate: whether more happened than is kept as it is, so that the value is within a stated error
            (docs/language.md).
        instants: of the events that it counts and that are kept, the newest last, ISO 8601.
        parts: the conditions in it.
        seen_since: since when what it looks at has been observed, where that is not long enough yet, ISO 8601: the definitions
            have changed, and what came before does not count.
        kind: the key that the condition has in YAML: event, trait, attribute,
            sequence, absent, near, during, audience, all, any, none.
    """

    asks: str
    holds: bool
    kind: str
    saw: str = ""
    missing: str = ""
    next_change: str | None = None
    value: Anything = None
    approximate: bool = False
    instants: list[str] = []
    parts: list[Explained] = []
    seen_since: str | None = None


class Explanation(msgspec.Struct, omit_defaults=True):
    """Why a person is in an audience, or not.

    Args:
        audience: its name.
        description: the audience's own.
        profile_id: the person's, 32 hexadecimal digits.
        identifiers: the person's.
        at: the instant that is explained, ISO 8601.
        member: whether they are in at that instant; None: nobody can say, the audience is warming.
        next_change: when that changes if nothing happens; None: never.
        condition: the tree.
        warming_until: of an audience that is warming: until when; None: no time completes what it has seen.
    """

    audience: str
    profile_id: str
    identifiers: list[str]
    at: str
    member: bool | None
    condition: Explained
    next_change: str | None = None
    description: str = ""
    warming_until: str | None = None


class Value(msgspec.Struct, frozen=True):
    """A condition's value, and a lower bound of the next instant at which it can change by itself (``NEVER``)."""

    holds: bool
    until_ms: int = NEVER
