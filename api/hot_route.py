"""The short way to the question that is asked most: is this person in that audience?

Owns: the answer to ``GET /v1/profiles/{identifier}/audiences/{audience}`` in its plain form (no query, an audience of the project),
given before routing and parameters, which cost more than the look-up. Invariant: key, allowance, answer and errors are those of
the route, which documents it and answers every other form.
Not here: the route (api.routes.lookups).
"""

from __future__ import annotations

from functools import lru_cache, partial

from starlette.types import Receive, Scope, Send

from api.access import Access
from api.freshness import ANY
from api.metrics import Counters
from api.problems import KNOWN, answer_to
from api.routes.lookups import encode, one_membership, split, unknown
from api.shards import Shards

KEPT = 16_384
PREFIX = "/v1/profiles/"
JSON = (b"content-type", b"application/json")


class HotRoute:
    """The short way.

    Args:
        shards: the state.
        access: keys.
        counters: what is counted.
    """

    def __init__(self, shards: Shards, access: Access, counters: Counters) -> None:
        self._shards = shards
        self._access = access
        self._counters = counters
        # Whoever is asked for is asked for again soon.
        self._split = lru_cache(KEPT)(partial(split, shards.compiled.project.identity))

    async def answers(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answers a request of the plain form; False, and nothing was done, where it is another."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return False
        path: str = scope["path"]
        if not path.startswith(PREFIX):
            return False
        parts = path.split("/")
        if (
            len(parts) != 6
            or parts[4] != "audiences"
            or not parts[3]
            or parts[5] not in self._shards.compiled.plan.numbers
        ):
            return False
        try:
            self._access.check_headers(scope["headers"], "read:profiles")
            body = await self._body(parts[3], parts[5])
        except KNOWN as error:
            await answer_to(error)(scope, receive, send)
            return True
        headers = [(b"content-length", b"%d" % len(body)), JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    async def _body(self, identifier: str, audience: str) -> bytes:
        number = self._shards.compiled.plan.numbers[audience]
        found = await self._shards.find(*self._split(identifier), ANY, (audience,), number)
        person = found.person
        self._counters.add("opportune_lookups_total", outcome="found" if person else "unknown", way="short")
        if person is None:
            raise unknown(self._shards, found)
        return encode(one_membership(self._shards, found, person, audience))
