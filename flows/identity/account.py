"""What became of an identifier: whose it is, by which merges, and how that profile came to be what it is.

Owns: the account of one profile's identities, read from a state directory.
Invariant: nothing is written; what a job does meanwhile is not seen.
Not here: the way from shard to shard (state.person), printing (opportune.cli.identity).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flows.identity.notes import HISTORY, History, decode_history, mark_of
from opportune.event import iso_text
from opportune.identifiers import BYTES_MAX, Blocked, IdentitySettings, is_too_long, normalised
from opportune.identity import digest_of
from opportune.profile import FROZEN, Profile
from state.keys import U16
from state.person import decode_head, unreadable, where
from state.store import Store


class Told(msgspec.Struct, frozen=True):
    """One line of a history.

    Args:
        at: log time, ISO 8601.
        what: ``attached``, ``merged``, ``refused``, ``conflict`` or ``lost``.
        about: the identifier; of a merge the id of the other profile.
        place: ``topic/partition/offset`` of the event that did it; empty where none did.
        message_id: of that event, its first characters.
    """

    at: str
    what: str
    about: str
    place: str
    message_id: str


class Came(msgspec.Struct, frozen=True):
    """An identifier of a profile, and the event that brought it.

    Args:
        identifier: ``namespace:value``.
        at: the event's arrival, ISO 8601; None, as all that follows, where it is not kept any more, or a row brought it.
        place: ``topic/partition/offset``.
        message_id: its first characters.
    """

    identifier: str
    at: str | None = None
    place: str | None = None
    message_id: str | None = None


class Account(msgspec.Struct, frozen=True):
    """A profile's identities.

    Args:
        identifier: that was asked for, as it is kept.
        profile_id: the profile that it belongs to, 32 hexadecimal digits.
        led_on: whether the identifier's own id leads to this profile: by a merge, or since it was attached.
        merging_into: the profile that this one is on its way into.
        identifiers: all of the profile, the founding one first while it is the profile's.
        claimed: identifiers that are claimed for it and not granted yet.
        now: the last instant of the profile, ISO 8601.
        came: when and by which event each identifier came.
        history: what happened to its identities, oldest first: the first of each kind, and ever fewer of what comes again.
        counts: how often each thing happened in all.
    """

    identifier: str
    profile_id: str
    led_on: bool
    merging_into: str | None
    identifiers: list[str]
    claimed: list[str]
    now: str
    came: list[Came]
    history: list[Told]
    counts: dict[str, int]


def identifier_of(settings: IdentitySettings, text: str) -> str:
    """An identifier as profiles have it.

    Args:
        settings: identity.yml.
        text: ``namespace:value``; a value alone is one of the strongest namespace.

    Raises:
        ValueError: the value is empty, or stands for nobody.
    """
    by_name = {namespace.name: namespace for namespace in settings.namespaces}
    name, colon, value = text.partition(":")
    if not colon or name not in by_name:
        name, value = settings.namespaces[0].name, text
    value = normalised(by_name[name], value)
    if is_too_long(value):
        raise ValueError(f"this {name} is longer than an identifier may be ({BYTES_MAX} bytes): no profile has it")
    if not value or Blocked(settings.blocked)(value):
        raise ValueError(f"{text!r} is no {name}: it is empty, cannot be read as one, or stands for nobody (blocked)")
    return f"{name}:{value}"


def account(store_of: Callable[[bytes], Store], identifier: str) -> Account | None:
    """Reads the account of an identifier.

    Args:
        store_of: the store of the shard that an id belongs to.
        identifier: as ``identifier_of`` returns it.

    Returns:
        None where nobody has it.

    Raises:
        StateError: what is stored cannot be read.
    """
    asked = digest_of(identifier)
    profile_id = where(store_of, asked)
    store = store_of(profile_id)
    value = store.get("profiles", profile_id)
    if value is None:
        return None
    kept = store.get("profiles", profile_id + U16(HISTORY))
    try:
        head: Profile = decode_head(value)
        history = History() if kept is None else decode_history(kept)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(profile_id, error) from error
    if not head.now:
        return None
    return Account(
        identifier,
        profile_id.hex(),
        profile_id != asked,
        head.into.hex() if head.into is not None and head.fate & FROZEN else None,
        list(head.identifiers),
        [text for text in dict.fromkeys(head.pending) if text not in head.identifiers],
        iso_text(head.now),
        [_came(text, history) for text in head.identifiers],
        [Told(iso_text(at), *told) for at, *told in history.last],
        dict(history.counts),
    )


def _came(text: str, history: History) -> Came:
    origin = history.came.get(mark_of(text))
    return Came(text) if origin is None else Came(text, iso_text(origin.at), origin.place, origin.message)
