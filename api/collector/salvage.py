r"""A batch in which one message is no JSON, taken apart all the same.

Clients put things into JSON that are none: half of an emoji that was cut (``\ud83d``), ``NaN``, bytes of another encoding, thousands of
levels. The decoder refuses the whole body then, and with it everybody else's events.
Owns: cutting an object or a list at the commas of its first level, by brackets and strings alone.
Invariant: what is cut out is as it came, byte for byte; whether it is good is for others to say, piece by piece. The work grows
with the bytes and not with the levels.
Not here: what the pieces mean (api.collector.messages).
"""

from __future__ import annotations

import re

# Possessive: a text without an end is looked at once. A quote that begins no text is a piece of its own, and ends all.
TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:"]', re.DOTALL)
PAIRS = {ord("{"): ord("}"), ord("["): ord("]")}
KEY = re.compile(rb'\s*"([A-Za-z]*)"\s*:')
NOT_SPACE = re.compile(rb"[^ \t\r\n]")


class Broken(ValueError):
    """Brackets or texts that do not end: what belongs where cannot be known."""


def pieces(blob: bytes, opening: bytes) -> list[bytes]:
    """What stands between the commas of an object or a list.

    Args:
        blob: its bytes, brackets included.
        opening: its first bracket.

    Raises:
        Broken: it is none, or has no clear end.
    """
    open_brackets = bytearray()
    found: list[bytes] = []
    start = 0
    for token in TOKENS.finditer(blob):
        sign, at = blob[token.start()], token.start()
        if not open_brackets:
            if found or start or blob[at : at + 1] != opening or blob[:at].strip():
                raise Broken
            open_brackets.append(sign)
            start = at + 1
        elif sign in PAIRS:
            open_brackets.append(sign)
        elif sign in b"]}":
            if PAIRS[open_brackets.pop()] != sign:
                raise Broken
            if not open_brackets:
                found.append(blob[start:at])
                start = at + 1
        elif sign == ord(",") and len(open_brackets) == 1:
            found.append(blob[start:at])
            start = at + 1
        elif token.end() - at == 1 and sign == ord('"'):
            raise Broken
    if open_brackets or not found or NOT_SPACE.search(blob, start):
        raise Broken
    return found if len(found) > 1 or found[0].strip() else []


def fields(blob: bytes) -> dict[str, bytes]:
    """The values of an object by those of its keys that are plain words; of a key that comes twice the last. Raises ``Broken``."""
    found: dict[str, bytes] = {}
    for piece in pieces(blob, b"{"):
        key = KEY.match(piece)
        if key is not None:
            found[key[1].decode()] = piece[key.end() :].strip()
    return found


def batch(blob: bytes) -> tuple[list[bytes], dict[str, bytes]] | None:
    """The messages of a batch and the other fields of its body, as they came; None where it is none or cannot be taken apart."""
    try:
        found = fields(blob)
        messages = found.pop("batch", None)
        return None if messages is None else ([piece.strip() for piece in pieces(messages, b"[")], found)
    except Broken:
        return None
