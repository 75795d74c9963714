"""Whom an event names: its identifiers as persons, strongest first, remembered.

Owns: ``Person``, one identifier with what follows from it, and ``People``, which finds those of an event (IDENTITY.md
sections 1 and 2). A bounded number is remembered, so that the usual event costs a look-up or two.
Not here: whose the identifiers are (flows.identity), settings and normalisation (opportune.identifiers).
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from opportune.audiences.predicate import walk
from opportune.audiences.schema import Path
from opportune.decode import EventType
from opportune.errors import RejectedEvent
from opportune.identifiers import Blocked, IdentitySettings, Namespace, is_too_long, normalised
from opportune.identity import ProfileId, profile_id, shard_of

REASONS = ("no_identifier", "blocked_identifier", "identifier_too_long")
"""Why an event is nobody's: of several, the last one here says most."""


class Person:
    """An identifier, or (``addressed``) a profile that an event was sent on to.

    Attributes:
        id: the id of the profile that the identifier founds, or of the profile.
        text: ``namespace:value``.
        rank: the place of the namespace.
        salt: 64 bits of the id, mixed into message ids so that each profile has its own.
        known: whether the identifier is known to have a profile; set by the actor that has seen it.
        owner: the person whose profile has this one among its identifiers, or has claimed it, as far as is known.
        alone: a tuple of this person.
        addressed: whether this is a profile.
    """

    __slots__ = ("addressed", "alone", "id", "known", "owner", "rank", "salt", "shard", "text")

    def __init__(self, id_: ProfileId, text: str, rank: int, shards: int, *, addressed: bool = False) -> None:
        self.id = id_
        self.text = text
        self.rank = rank
        self.salt = salt_of(id_)
        self.shard = shard_of(id_, shards)
        self.known = addressed
        self.owner: Person | None = None
        self.alone = (self,)
        self.addressed = addressed


class People:
    """Finds the persons of an event; remembers a bounded number of them.

    Args:
        shards: how many shards there are.
        settings: identity.yml.
        event_type: where the decoder puts the values at paths; None: only fields of the message itself are read.
        remembered_max: of a namespace's persons, so many of the last ones are remembered, and up to as many before them.

    Attributes:
        by_user, by_anonymous: persons by the raw value, where an event's userId decides, and where only its anonymousId
            does; both stay empty where the settings do not allow such a short way.
        slow_types: the call types for which it has to be ``find``.
    """

    def __init__(
        self,
        shards: int,
        settings: IdentitySettings | None = None,
        event_type: EventType | None = None,
        remembered_max: int = 150_000,
    ) -> None:
        settings = settings or IdentitySettings()
        self.shards = shards
        self.event_type = event_type
        self.remembered_max = remembered_max
        self.namespaces = settings.namespaces
        self.blocked = Blocked(settings.blocked)
        self.ranks = settings.ranks()
        self.previous = self.ranks[settings.alias_previous]
        self.memory: list[dict[Any, Person]] = [{} for _ in self.namespaces]
        self.before: list[dict[Any, Person]] = [{} for _ in self.namespaces]
        self.by_user: dict[Any, Person] = {}
        self.by_anonymous: dict[Any, Person] = {}
        self.slow_types = frozenset({"alias"})
        self.otherwise: dict[str, list[Person]] = {}
        self.short: tuple[int, int] | None = None
        self._shorten()

    def _shorten(self) -> None:
        """The short way: userId is the strongest, and all but anonymousId come with few call types."""
        user = [rank for rank, one in enumerate(self.namespaces) if one.paths == (("userId",),) and not one.of]
        device = [rank for rank, one in enumerate(self.namespaces) if one.paths == (("anonymousId",),) and not one.of]
        others = [one for rank, one in enumerate(self.namespaces) if rank not in (*user, *device)]
        if user[:1] == [0] and len(user) == len(device) == 1 and all(one.of for one in others):
            self.short = (user[0], device[0])
            self.by_user, self.by_anonymous = self.memory[user[0]], self.memory[device[0]]
            self.slow_types |= {type_ for one in others for type_ in one.of}

    def others(self, event: Any) -> tuple[Person, ...]:
        """All but the first of ``find``, of an event that has passed it before."""
        if self.short is not None and event.userId is None and event.type not in self.slow_types:
            return ()
        return self.find(event)[1]

    def user(self, raw: Any) -> Person | None:
        """The person of a userId that comes alone, in the short way; None where ``find`` has to look."""
        if self.short is None or raw.__class__ is not str:
            return None
        person = self.by_user.get(raw) or self._recalled(0, raw)
        if person is None:
            text = normalised(self.namespaces[0], raw)
            if text and not is_too_long(text) and not self.blocked(text):
                person = self._remember(0, raw, text)
        return person

    def find(self, event: Any) -> tuple[Person, tuple[Person, ...]]:
        """The person of an event's strongest identifier, and those of its others, in order.

        Raises:
            RejectedEvent: there is no identifier, or only ones that are blocked or too long.
        """
        reasons: list[str] = []
        if self.short is not None and event.type not in self.slow_types:
            user = self._named(self.short[0], event.userId, reasons)
            device = self._named(self.short[1], event.anonymousId, reasons)
            if user is not None:
                return user, () if device is None else device.alone
            found = [] if device is None else [device]
        else:
            found = self._all(event, reasons)
        if not found:
            raise RejectedEvent(max(reasons, key=REASONS.index, default=REASONS[0]))
        return found[0], tuple(found[1:])

    def _all(self, event: Any, reasons: list[str]) -> list[Person]:
        found: list[Person] = []
        for rank, namespace in enumerate(self.namespaces):
            if namespace.of and event.type not in namespace.of:
                continue
            for raw in self._raw(event, rank, namespace):
                person = self._named(rank, raw, reasons)
                if person is not None and all(other.id != person.id for other in found):
                    found.append(person)
        return found

    def _named(self, rank: int, raw: Any, reasons: list[str]) -> Person | None:
        """The person of a raw value; None, with a reason where it is not just lacking, if it stands for nobody."""
        if raw is None:
            return None
        person = self.memory[rank].get(raw) or self._recalled(rank, raw)
        if person is None:
            text = normalised(self.namespaces[rank], raw)
            if not text:
                return None
            if is_too_long(text):
                reasons.append("identifier_too_long")
                return None
            if self.blocked(text):
                reasons.append("blocked_identifier")
                return None
            person = self._remember(rank, raw, text)
        return person

    def _raw(self, event: Any, rank: int, namespace: Namespace) -> list[Any]:
        """The raw values of a namespace that an event brings: by its paths, and as the previous id of an alias."""
        values = []
        for path in namespace.paths:
            value = self._value(event, path)
            if isinstance(value, str | int) or hasattr(value, "as_tuple"):
                values.append(value)
                break
        if rank == self.previous and event.type == "alias" and event.previousId is not None:
            previous = event.previousId
            if event.userId is None or str(previous).strip() != str(event.userId).strip():
                values.append(previous)
        return values

    def _value(self, event: Any, path: tuple[str, ...]) -> Any:
        if len(path) == 1:
            return getattr(event, path[0])
        if self.event_type is None or (path[0] == "traits" and event.type == "group"):
            return None
        return value_at(self.event_type, event, Path(path[0], path[1:]))  # type: ignore[arg-type]  # one of the roots

    def _recalled(self, rank: int, raw: Any) -> Person | None:
        """A person who was not seen lately, and is now."""
        person = self.before[rank].pop(raw, None)
        if person is not None:
            self._room(rank)[raw] = person
        return person

    def _room(self, rank: int) -> dict[Any, Person]:
        """The memory of a namespace; who was not seen since it was as full before is let go."""
        memory = self.memory[rank]
        if len(memory) < self.remembered_max:
            return memory
        self.before[rank], self.memory[rank] = memory, {}
        if len(self.otherwise) >= self.remembered_max:
            for persons in self.otherwise.values():
                for person in persons:
                    person.owner = None
            self.otherwise.clear()
        if self.short is not None:
            self.by_user, self.by_anonymous = (self.memory[place] for place in self.short)
        return self.memory[rank]

    def _remember(self, rank: int, raw: Any, text: str) -> Person:
        name = self.namespaces[rank].name
        person = self._room(rank)[raw] = Person(profile_id(name, text), f"{name}:{text}", rank, self.shards)
        if raw != text:
            self.otherwise.setdefault(person.text, []).append(person)
        return person

    def disown(self, text: str) -> None:
        """An identifier (``namespace:value``) has changed hands: whoever brings it next asks whose it is."""
        for written in self._written(text):
            written.owner = None

    def forget(self, text: str) -> None:
        """Whoever had an identifier was forgotten: it is known to nobody, and what it brings is new."""
        for written in self._written(text):
            written.known, written.owner = False, None

    def _written(self, text: str) -> list[Person]:
        """The persons of an identifier, in all ways in which it is written."""
        name, _, value = text.partition(":")
        rank = self.ranks.get(name)
        memories = () if rank is None else (self.memory[rank], self.before[rank])
        found = [*(memory.get(value) for memory in memories), *self.otherwise.get(text, ())]
        return [person for person in found if person is not None]


def value_at(event_type: EventType, event: Any, path: Path) -> Any:
    """The decoded value at a path of an event; UNSET or None where there is none."""
    at = getattr(event, path.root)
    if at is None:
        return None
    root, keys = path.root, path.keys
    if root == "context" and keys[0] == "traits" and "traits" not in event_type.keys["context"]:
        at, root, keys = at.traits, "traits", keys[1:]
        if at is None or not keys:
            return None
    value = getattr(at, f"p{event_type.keys[root].index(keys[0])}")
    return walk(value, keys[1:]) if value is not UNSET else UNSET


def salt_of(profile: bytes) -> int:
    """The salt of a profile's message ids."""
    return int.from_bytes(profile[8:], "big")


def is_known(person: Person, others: tuple[Person, ...]) -> bool:
    """Whether an event with these identifiers can bring nothing new to a person's profile."""
    if not person.known:
        return False
    for other in others:  # noqa: SIM110 - a generator costs more than what it would look at
        if other.owner is not person:
            return False
    return True
