"""Which identifiers there can be, and which of them an event brings.

Owns: the settings of identity.yml as values, with their defaults, and how a raw value becomes an identifier: what is
blocked, normalisation. Namespaces are in order of priority, strongest first.
Not here: reading identity.yml (opportune.audiences.identity_file), persons and their memory (opportune.people).
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from opportune.event import identifier_text
from opportune.phone import e164

Normalise: TypeAlias = Literal["text", "email", "phone"]
ENVELOPE = ("userId", "anonymousId")
"""Fields of a message itself that a path may name; all other paths start in properties, context or traits."""
BYTES_MAX = 256
"""Of an identifier's value, in UTF-8: what is longer is none, and only what is kept of it would be long."""
SHORT_CHARS = BYTES_MAX // 4
"""A text of so many characters is never too long."""


class Namespace(msgspec.Struct, frozen=True):
    """A kind of identifier.

    Args:
        name: as in ``name:value``.
        paths: where a message has it; the first that is there counts.
        limit: how many a profile may have.
        of: the call types that may bring it; empty: all.
        normalise: how values are written.
        shared: whether the thing may change hands, as a device does.
        region: of telephone numbers without a country code.
    """

    name: str
    paths: tuple[tuple[str, ...], ...]
    limit: int
    of: tuple[str, ...] = ()
    normalise: Normalise = "text"
    shared: bool = False
    region: str | None = None


USER_ID = Namespace("user_id", (("userId",),), 1)
EMAIL = Namespace("email", (("traits", "email"), ("context", "traits", "email")), 5, ("identify",), "email")
PHONE = Namespace("phone", (("traits", "phone"), ("context", "traits", "phone")), 5, ("identify",), "phone")
ANONYMOUS_ID = Namespace("anonymous_id", (("anonymousId",),), 100, shared=True)
BLOCKED = (
    *("null", "none", "undefined", "nil", "nan", "0", "-1", "anonymous", "guest", "unknown", "user", "test"),
    *("[object object]", "/^[0-]+$/"),
)


class IdentitySettings(msgspec.Struct, frozen=True):
    """identity.yml.

    Args:
        namespaces: strongest first.
        blocked: values that stand for nobody, in lower case; between slashes a regular expression.
        alias_previous: the namespace of ``previousId``.
    """

    namespaces: tuple[Namespace, ...] = (USER_ID, EMAIL, PHONE, ANONYMOUS_ID)
    blocked: tuple[str, ...] = BLOCKED
    alias_previous: str = "anonymous_id"

    def ranks(self) -> dict[str, int]:
        """The place of each namespace, 0 for the strongest."""
        return {namespace.name: rank for rank, namespace in enumerate(self.namespaces)}


class Blocked:
    """The values that stand for nobody.

    Args:
        values: as in ``IdentitySettings``.
    """

    def __init__(self, values: tuple[str, ...]) -> None:
        self._exact = frozenset(value.lower() for value in values if not is_pattern(value))
        self._patterns = [re.compile(value[1:-1], re.IGNORECASE) for value in values if is_pattern(value)]

    def __call__(self, value: str) -> bool:
        """Whether a trimmed value is one of them, in any case of letters."""
        if value.lower() in self._exact:
            return True
        for pattern in self._patterns:  # noqa: SIM110 - a generator costs more than the search
            if pattern.search(value):
                return True
        return False


def is_pattern(value: str) -> bool:
    """Whether a blocked value is a regular expression."""
    return len(value) > 2 and value[0] == value[-1] == "/"


def normalised(namespace: Namespace, raw: Any) -> str:
    """The value of an identifier; empty where there is none. What is too long is left as it is.

    Args:
        namespace: its kind.
        raw: the decoded value.

    Raises:
        RejectedEvent: ``bad_shape``, for a number that nobody would write out.
    """
    if isinstance(raw, str):
        text = raw.strip()
    elif isinstance(raw, bool) or not isinstance(raw, int | Decimal):
        return ""
    else:
        text = identifier_text(raw)
    if namespace.normalise == "text":
        return text
    if is_too_long(text):
        return text
    return text.lower() if namespace.normalise == "email" else _phone(text, namespace.region)


def is_too_long(text: str) -> bool:
    """Whether a value is longer than an identifier may be."""
    return len(text) > SHORT_CHARS and len(text.encode("utf-8", "surrogatepass")) > BYTES_MAX


@lru_cache(maxsize=10_000)
def _phone(text: str, region: str | None) -> str:
    return e164(text, region) or ""
