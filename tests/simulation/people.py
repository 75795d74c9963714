"""What simulated people do: messages with the identifiers of one person, or of a device that several use.

Owns: the random logs. Not here: what is right (tests.oracle.identity).
"""

from __future__ import annotations

import json
from functools import cache
from random import Random

from tests.oracle.builders import DAY_0, message

STEP_MS = 1_000


class Crowd:
    """Some people with their identifiers.

    Args:
        random: decides.
        count: how many people.
        shared: whether people use each other's devices and addresses.
    """

    def __init__(self, random: Random, count: int, *, shared: bool) -> None:
        self.random = random
        self.shared = shared
        self.sent: list[bytes] = []
        self.users = [f"u{number}" for number in range(count)]
        self.devices = [[f"d{number}.{at}" for at in range(random.randint(1, 4))] for number in range(count)]
        self.emails = [[f"e{number}.{at}@x.example" for at in range(random.randint(0, 2))] for number in range(count)]

    def log(self, partitions: int, length: int) -> list[list[tuple[bytes, int]]]:
        """Messages with their arrivals, by partition."""
        log: list[list[tuple[bytes, int]]] = [[] for _ in range(partitions)]
        for at in range(length):
            raw = self._message(at)
            if not self.shared and self.sent and self.random.random() < 0.1:
                raw = self.random.choice(self.sent)
            self.sent.append(raw)
            log[self.random.randrange(partitions)].append((raw, DAY_0 + at * STEP_MS))
        return log

    def _message(self, at: int) -> bytes:
        random = self.random
        who = random.randrange(len(self.users))
        of = random.randrange(len(self.users)) if self.shared and random.random() < 0.3 else who
        fields: dict[str, object] = {"messageId": f"m{at}"}
        user = self.users[who] if random.random() < 0.4 else None
        if user is None or random.random() < 0.6:
            fields["anonymousId"] = random.choice(self.devices[of])
        if self.emails[of] and random.random() < 0.25:
            fields["traits"] = {"email": random.choice(self.emails[of]), "plan": random.choice(("free", "paid"))}
            return message("identify", at * STEP_MS, user, **fields)
        return message("track", at * STEP_MS, user, event=random.choice("ABC"), **fields)


@cache
def texts(raw: bytes) -> tuple[str, ...]:
    """The identifiers of a message of the crowd, strongest first."""
    body = json.loads(raw)
    named = [("user_id", body.get("userId")), ("email", body.get("traits", {}).get("email"))]
    return tuple(f"{name}:{value}" for name, value in [*named, ("anonymous_id", body.get("anonymousId"))] if value)
