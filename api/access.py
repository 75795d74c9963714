"""Which key a request has, and whether it may do what it asks.

Owns: where keys stand in a request (``Authorization: Bearer``, ``X-Api-Key``; for writing also the places that event
clients use), scopes and allowances. Where no key was ever made the service is open; it then listens on loopback only.
Not here: keys (api.keys).
"""

from __future__ import annotations

import base64
import binascii
import contextlib

from fastapi import Request

from api.allowance import Allowances
from api.keys import Key, Keyring
from api.problems import Problem
from opportune.clock import Clock

DEFAULT_SOURCE = "default"


class Access:
    """The door of the service.

    Args:
        keyring: the keys in force.
        clock: monotonic milliseconds.
    """

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self.keyring = keyring
        self.allowances = Allowances(clock)

    def check(self, request: Request, scope: str) -> None:
        """Lets a request in. Raises ``Problem``: 401, 403 or 429."""
        self.check_headers(request.scope["headers"], scope)

    def check_headers(self, headers: list[tuple[bytes, bytes]], scope: str) -> None:
        """As ``check``, of the headers as they came."""
        if not self.keyring.guarded:
            return
        key = self.keyring.find(bearer(headers))
        if key is None:
            raise Problem(401, "no_key", "give a key that is in force: Authorization: Bearer KEY")
        if not key.may(scope):
            raise Problem(403, "no_scope", f"the key has no scope {scope}")
        wait_s = self.allowances.take(key)
        if wait_s:
            raise Problem(429, "too_many_requests", f"the key may make {key.per_second} requests a second", wait_s)

    def holds(self, request: Request, scope: str) -> bool:
        """Whether a request that was let in still would be; counts nothing."""
        key = self.keyring.find(bearer(request.scope["headers"]))
        return key.may(scope) if key is not None else not self.keyring.guarded

    def writer(self, texts: list[str]) -> Key | None:
        """The first of the presented texts that is a write key in force. A text may be ``key:secret``; the key counts."""
        for text in texts:
            key = self.keyring.find(text.partition(":")[0])
            if key is not None and key.may("write:events"):
                return key
        return None


def bearer(headers: list[tuple[bytes, bytes]]) -> str:
    """The key of a look-up, of headers with names in lower case; empty where there is none."""
    given = ""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, text = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return text
        elif name == b"x-api-key" and not given:
            given = value.decode("latin-1")
    return given


def write_key_texts(request: Request) -> list[str]:
    """What a request presents as write key outside of its body, strongest place first."""
    texts = [request.headers.get("x-write-key", "")]
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            texts.append(base64.b64decode(text, validate=True).decode("utf-8", "replace"))
    elif scheme.lower() == "bearer":
        texts.append(text)
    texts.append(request.query_params.get("writeKey", ""))
    return [one for one in texts if one]
