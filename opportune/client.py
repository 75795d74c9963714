"""A thin client of the look-up API.

Owns: one connection's worth of calls, with a timeout, and retries of what may be retried: 429, 503 and a connection that
failed. Only the standard library is needed, so that an application installs nothing more. Invariant: "not a member" is only
ever what the service said; whatever it could not say is an exception.
Not here: what the answers mean (docs/api.md).
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from opportune.errors import OpportuneError, ReadRefused

T = TypeVar("T")
RETRIED = frozenset({429, 503})
PAUSE_S_MAX = 5.0


class Freshness(msgspec.Struct, frozen=True):
    """For which moment an answer is true: ``as_of``, ISO 8601, and how many milliseconds old that was."""

    shard: int
    as_of: str
    age_ms: int


class Membership(msgspec.Struct, frozen=True):
    """A person is in an audience, since an instant of ISO 8601."""

    audience: str
    since: str


class Person(msgspec.Struct, frozen=True):
    """A person, with the fields that were asked for."""

    profile_id: str
    freshness: Freshness
    identifiers: dict[str, list[str]] = {}
    memberships: list[Membership] = []
    traits: dict[str, Any] = {}
    attributes: dict[str, Any] = {}


class Erasure(msgspec.Struct, frozen=True):
    """How far a request to forget somebody has come; docs/api.md says what each field means."""

    request: str
    state: str
    requested_at: str
    completed_at: str | None
    profiles: int
    suppressed_until: str
    message_ids_until: str
    dead_letters_until: str


class _Member(msgspec.Struct):
    member: bool


class _Lookup(msgspec.Struct):
    profile: Person | None = None


class _Lookups(msgspec.Struct):
    results: list[_Lookup]


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""


class CallFailed(OpportuneError):
    """The service refused a call for good.

    Args:
        status: of HTTP.
        kind: the last word of the problem's type.
        detail: what to do.
    """

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail


class Client:
    """Asks a service.

    Args:
        address: for example ``http://127.0.0.1:8080``.
        key: of ``opportune keys make``; empty where the service needs none.
        timeout_s: of one attempt.
        attempts: how often a call is tried.
        pause: sleeps between two of them.
    """

    def __init__(
        self,
        address: str,
        key: str = "",
        *,
        timeout_s: float = 5.0,
        attempts: int = 3,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if not address.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        self._address = address.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._pause = pause

    def person(self, identifier: str, fields: Sequence[str] = (), min_freshness_ms: int | None = None) -> Person | None:
        """A person, or None where nobody is known by this identifier (``namespace:value``).

        Raises:
            ReadRefused: the service cannot answer now, or not as fresh as asked.
            CallFailed: the call is wrong, or the key may not make it.
        """
        return self.people([identifier], fields, min_freshness_ms)[0]

    def people(
        self, identifiers: Sequence[str], fields: Sequence[str] = (), min_freshness_ms: int | None = None
    ) -> list[Person | None]:
        """Up to 100 people, in the order of the identifiers. Raises as ``person``."""
        wanted: dict[str, Any] = {"identifiers": list(identifiers)}
        if fields:
            wanted["fields"] = list(fields)
        answer = self._call("/v1/lookups", _Lookups, wanted, min_freshness_ms)
        return [one.profile for one in answer.results]

    def is_member(self, identifier: str, audience: str, min_freshness_ms: int | None = None) -> bool:
        """Whether somebody is in an audience; whom nobody knows is in none. Raises as ``person``."""
        path = f"/v1/profiles/{quote(identifier, safe='')}/audiences/{quote(audience, safe='')}"
        try:
            return self._call(path, _Member, None, min_freshness_ms).member
        except CallFailed as error:
            if error.kind == "no_such_person":
                return False
            raise

    def forget(self, *identifiers: str) -> Erasure:
        """Asks that whoever has these identifiers be forgotten; ``erasure`` says how far that has come. Raises as ``person``."""
        return self._call("/v1/erasures", Erasure, {"identifiers": list(identifiers)}, None)

    def erasure(self, request: str) -> Erasure:
        """How far an earlier request has come. Raises as ``person``."""
        return self._call(f"/v1/erasures/{quote(request, safe='')}", Erasure, None, None)

    def _call(self, path: str, answer: type[T], body: Any, min_freshness_ms: int | None) -> T:
        query = f"?{urlencode({'min_freshness_ms': min_freshness_ms})}" if min_freshness_ms is not None else ""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = msgspec.json.encode(body) if body is not None else None
        refused = ""
        for attempt in range(self._attempts):
            request = urllib.request.Request(self._address + path + query, data, headers)  # noqa: S310 - http, see above
            wait_s = min(0.1 * 2**attempt, PAUSE_S_MAX)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310 - as above
                    return msgspec.json.decode(response.read(), type=answer)
            except urllib.error.HTTPError as error:
                problem = _problem(error.read())
                if error.code not in RETRIED:
                    raise CallFailed(error.code, problem.type.rpartition(":")[2], problem.detail) from error
                refused = problem.detail
                told = error.headers.get("Retry-After", "")
                wait_s = min(float(told), PAUSE_S_MAX) if told.isdecimal() else wait_s
            except (OSError, msgspec.DecodeError) as error:
                refused = str(error)
            if attempt + 1 < self._attempts:
                self._pause(wait_s)
        raise ReadRefused(f"{self._address} cannot answer now: {refused}")


def _problem(body: bytes) -> _Problem:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Problem(detail="the answer is not a problem document: is this the service's address?")
