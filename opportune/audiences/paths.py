"""Paths into a message, as ``where`` writes them.

Owns: the text form. A path starts in ``properties``, unless it begins with ``context.``, ``traits.`` or ``properties.``.
Not here: following a path through a message (opportune.audiences.compiler).
"""

from __future__ import annotations

import re
from typing import Literal, cast

from opportune.audiences.diagnostics import Unreadable, quoted
from opportune.audiences.schema import Path

ROOTS = ("properties", "context", "traits")
PATH_KEYS_MAX = 16
UNDECODABLE = re.compile(r'["\\\x00-\x1f]')
"""What a field of a generated struct cannot have in its name."""


def path_of(text: str) -> Path:
    """The path that a text stands for.

    Raises:
        Unreadable: as ``keys_of``.
    """
    keys = keys_of(text)
    if keys[0] in ROOTS and len(keys) > 1:
        return Path(cast(Literal["properties", "context", "traits"], keys[0]), keys[1:])
    return Path("properties", keys)


def keys_of(text: str) -> tuple[str, ...]:
    """The keys of a path or of a trait's name.

    Raises:
        Unreadable: a key is empty, or one that the decoder cannot look for, or there are too many.
    """
    keys = tuple(text.split("."))
    if not all(key.strip() for key in keys):
        raise Unreadable(f"{quoted(text)} is not a path: a key is empty", "write for example `cart.total`")
    if UNDECODABLE.search(text) is not None:
        raise Unreadable(
            f"{quoted(text)} has a quotation mark, a backslash or a control character in a key",
            "such properties are not read; send them under a plain name",
        )
    if len(keys) > PATH_KEYS_MAX:
        raise Unreadable(f"{quoted(text)} has more than {PATH_KEYS_MAX} keys")
    return keys
