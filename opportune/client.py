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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from opportune.audiences.explained import Explanation
from opportune.client_stream import BROKEN, Changes
from opportune.errors import OpportuneError, ReadRefused

T = TypeVar("T")
RETRIED = frozenset({429, 503})
PAUSE_S_MAX = 5.0
STREAM_S = 40.0
PAGE = 10_000


class Freshness(msgspec.Struct, frozen=True):
    """For which moment an answer is true: ``as_of``, ISO 8601, how many milliseconds old that was, and its position."""

    shard: int
    as_of: str
    age_ms: int
    position: str = ""


class Membership(msgspec.Struct, frozen=True):
    """A person is in an audience, since an instant of ISO 8601, and until one where time alone will end it."""

    audience: str
    since: str
    until: str | None = None


class Warming(msgspec.Struct, frozen=True):
    """An audience of which nobody can say yet who is in it, and until when; None: no time completes what it has seen."""

    audience: str
    until: str | None = None


class Person(msgspec.Struct, frozen=True):
    """A person, with the fields that were asked for."""

    profile_id: str
    freshness: Freshness
    identifiers: dict[str, list[str]] = {}
    memberships: list[Membership] = []
    traits: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    computed_traits: dict[str, Any] = {}
    warming: list[Warming] = []


class LastHour(msgspec.Struct, frozen=True):
    """Membership changes since an instant, an hour ago at most."""

    since: str
    entered: int
    exited: int


class Audience(msgspec.Struct, frozen=True):
    """An audience: its number of members (None: not known now) and when they were counted; ``definition`` and ``plan`` where it was asked for alone."""

    name: str
    definition_version: str
    members: int | None = None
    members_as_of: str = ""
    description: str = ""
    last_hour: LastHour | None = None
    definition: Any = None
    plan: Any = None


class Member(msgspec.Struct, frozen=True):
    """A member of an audience."""

    profile_id: str
    since: str = ""
    identifiers: list[str] = []


class Row(msgspec.Struct, frozen=True):
    """A row of a warehouse table: the columns that have a value."""

    key: str
    row: dict[str, Any]


class Rows(msgspec.Struct, frozen=True):
    """A page of rows; ``next`` is the cursor of the next one, empty on the last."""

    rows: list[Row]
    version: str
    next: str = ""


class _Audiences(msgspec.Struct):
    audiences: list[Audience]


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
    member: bool | None


def _member_of(person: Person, audience: str) -> _Member:
    """What a person's answer says of an audience."""
    if any(one.audience == audience for one in person.warming):
        return _Member(None)
    return _Member(any(one.audience == audience for one in person.memberships))


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

    def person(
        self,
        identifier: str,
        fields: Sequence[str] = (),
        min_freshness_ms: int | None = None,
        *,
        min_position: str = "",
        min_version: int = 0,
    ) -> Person | None:
        """A person, or None where nobody is known by this identifier (``namespace:value``).

        Args:
            identifier: of the person.
            fields: those that are wanted; none: all.
            min_freshness_ms: how old the answer may be.
            min_position: ``freshness.position`` of an earlier answer: this one is not older.
            min_version: the version of a membership change: the answer is not older.

        Raises:
            ReadRefused: the service cannot answer now, or not as fresh as asked.
            CallFailed: the call is wrong, or the key may not make it.
        """
        asked = {"min_freshness_ms": min_freshness_ms, "min_position": min_position, "min_version": min_version or None}
        if "/" in identifier and not min_version:
            # It has no address of its own.
            return self._people([identifier], fields, asked)[0]
        if fields:
            asked["fields"] = ",".join(fields)
        return self._known(f"/v1/profiles/{quote(identifier, safe='')}", Person, asked)

    def people(
        self, identifiers: Sequence[str], fields: Sequence[str] = (), min_freshness_ms: int | None = None
    ) -> list[Person | None]:
        """Up to 100 people, in the order of the identifiers. Raises as ``person``."""
        return self._people(identifiers, fields, {"min_freshness_ms": min_freshness_ms})

    def _people(
        self, identifiers: Sequence[str], fields: Sequence[str], asked: Mapping[str, Any]
    ) -> list[Person | None]:
        wanted: dict[str, Any] = {"identifiers": list(identifiers)}
        if fields:
            wanted["fields"] = list(fields)
        answer = self._call("/v1/lookups", _Lookups, wanted, asked)
        return [one.profile for one in answer.results]

    def is_member(self, identifier: str, audience: str, min_freshness_ms: int | None = None) -> bool:
        """Whether somebody is in an audience; whom nobody knows is in none.

        Raises:
            ReadRefused: as ``person``; and where the audience is warming: nobody can say yet.
            CallFailed: as ``person``.
        """
        if "/" in identifier:
            person = self.person(identifier, ["memberships"], min_freshness_ms)
            found = None if person is None else _member_of(person, audience)
        else:
            path = f"/v1/profiles/{quote(identifier, safe='')}/audiences/{quote(audience, safe='')}"
            found = self._known(path, _Member, {"min_freshness_ms": min_freshness_ms})
        if found is None:
            return False
        if found.member is None:
            raise ReadRefused("the audience is warming: what it looks at has not been seen for long enough yet")
        return found.member

    def explanation(self, identifier: str, audience: str) -> Explanation | None:
        """Why somebody is in an audience or not; None where nobody is known by the identifier. Raises as ``person``."""
        path = f"/v1/profiles/{quote(identifier, safe='')}/audiences/{quote(audience, safe='')}/explanation"
        return self._known(path, Explanation, {})

    def audiences(self) -> list[Audience]:
        """All audiences of the project. Raises as ``person``."""
        return self._call("/v1/audiences", _Audiences, None, {}).audiences

    def audience(self, name: str) -> Audience:
        """One audience, with its definition and plan. Raises as ``person``."""
        return self._call(f"/v1/audiences/{quote(name, safe='')}", Audience, None, {})

    def members(self, audience: str, fields: Sequence[str] = ()) -> Iterator[Member]:
        """Everybody in an audience, in order of profile id, all of one moment. Raises as ``person``, also midway."""
        path = f"/v1/audiences/{quote(audience, safe='')}/members"
        cursor: str | None = ""
        while cursor is not None:
            asked = {"limit": PAGE, "fields": ",".join(fields), "cursor": cursor}
            body, headers = self._fetch(path, None, asked, "application/x-ndjson")
            for line in body.splitlines():
                yield msgspec.json.decode(line, type=Member)
            cursor = headers.get("Opportune-Cursor")

    def row(self, table: str, key: str) -> Row | None:
        """The row of a key in a warehouse table, or None. Raises as ``person``."""
        return self._known(f"/v1/collections/{quote(table, safe='')}/{quote(key, safe='')}", Row, {}, "no_such_row")

    def rows(self, table: str, column: str, value: str, *, limit: int = 100, cursor: str = "") -> Rows:
        """The rows of a warehouse table with a value in an indexed column, a page of them. Raises as ``person``."""
        asked = {column: value, "limit": limit, "cursor": cursor}
        return self._call(f"/v1/collections/{quote(table, safe='')}", Rows, None, asked)

    def changes(
        self,
        audiences: Sequence[str] = (),
        kinds: Sequence[str] = (),
        profile: str = "",
        position: str = "",
    ) -> Changes:
        """Membership changes as they come: iterate over what is returned.

        Args:
            audiences: only of these.
            kinds: only ``entered``, or only ``exited``.
            profile: only of this person: an identifier or a profile id.
            position: of an earlier ``Changes``: goes on behind it.

        Returns:
            An iterator that connects again by itself. It raises ``CallFailed`` where the service refuses: status 410 where
            the changes behind the position are no longer there.
        """
        asked = [("audience", name) for name in audiences] + [("kind", name) for name in kinds]
        asked += [("profile", profile)] if profile else []

        def connect(place: str) -> Iterator[bytes]:
            headers = self._headers("text/event-stream") | ({"Last-Event-ID": place} if place else {})
            request = urllib.request.Request(f"{self._address}/v1/changes?{urlencode(asked)}", None, headers)  # noqa: S310 - http, see above
            try:
                # A heartbeat comes every 15 seconds: who hears nothing for so long is no longer connected.
                with urllib.request.urlopen(request, timeout=STREAM_S) as response:  # noqa: S310 - as above
                    yield from response
            except urllib.error.HTTPError as error:
                if error.code not in RETRIED:
                    raise _failed(error) from error
                error.close()

        return Changes(connect, position, lambda: self._pause(1.0))

    def _known(self, path: str, answer: type[T], asked: Mapping[str, Any], missing: str = "no_such_person") -> T | None:
        """An answer, or None where the service says that there is no such thing."""
        try:
            return self._call(path, answer, None, asked)
        except CallFailed as error:
            if error.kind == missing:
                return None
            raise

    def forget(self, *identifiers: str) -> Erasure:
        """Asks that whoever has these identifiers be forgotten; ``erasure`` says how far that has come. Raises as ``person``."""
        return self._call("/v1/erasures", Erasure, {"identifiers": list(identifiers)}, {})

    def erasure(self, request: str) -> Erasure:
        """How far an earlier request has come. Raises as ``person``."""
        return self._call(f"/v1/erasures/{quote(request, safe='')}", Erasure, None, {})

    def _call(self, path: str, answer: type[T], body: Any, asked: Mapping[str, Any]) -> T:
        content, _ = self._fetch(path, body, asked, "application/json")
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as error:
            raise ReadRefused(f"{self._address} gave an answer that is none: {error}") from error

    def _headers(self, accept: str) -> dict[str, str]:
        return {"Accept": accept, **({"Authorization": f"Bearer {self._key}"} if self._key else {})}

    def _fetch(self, path: str, body: Any, asked: Mapping[str, Any], accept: str) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of an answer."""
        query = urlencode({name: value for name, value in asked.items() if value not in (None, "")})
        headers = {"Content-Type": "application/json", **self._headers(accept)}
        data = msgspec.json.encode(body) if body is not None else None
        refused = ""
        for attempt in range(self._attempts):
            request = urllib.request.Request(f"{self._address}{path}?{query}", data, headers)  # noqa: S310 - http, see above
            wait_s = min(0.1 * 2**attempt, PAUSE_S_MAX)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310 - as above
                    return response.read(), response.headers
            except urllib.error.HTTPError as error:
                failed = _failed(error)
                if error.code not in RETRIED:
                    raise failed from error
                refused = failed.detail
                told = error.headers.get("Retry-After", "")
                wait_s = min(float(told), PAUSE_S_MAX) if told.isdecimal() else wait_s
            except BROKEN as error:
                refused = str(error)
            if attempt + 1 < self._attempts:
                self._pause(wait_s)
        raise ReadRefused(f"{self._address} cannot answer now: {refused}")


def _failed(error: urllib.error.HTTPError) -> CallFailed:
    try:
        problem = msgspec.json.decode(error.read(), type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, *BROKEN):
        problem = _Problem(detail="the answer is not a problem document: is this the service's address?")
    return CallFailed(error.code, problem.type.rpartition(":")[2], problem.detail)
