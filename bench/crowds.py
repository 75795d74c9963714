"""Traffic that tries identities: people who are known, who sign in, and senders of which there should be none.

Owns: the logs, one message after the other; a log is the same each time. Not here: what they cost (bench.identity), what they
may leave (tests.unit.flows.test_identity_bounds).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

DAY_0_MS = 1_700_000_000_000
PEOPLE = 100
LONG = "-" + "x" * 230


def track(number: int, user: str | None, device: str | None) -> bytes:
    """A track call; ``number`` is its place in the log, and makes its message id."""
    fields = {"type": "track", "event": "A", "messageId": f"m{number}", "userId": user, "anonymousId": device}
    return msgspec.json.encode(fields)


def identify(number: int, user: str, email: str) -> bytes:
    """An identify call with an address."""
    return msgspec.json.encode(
        {"type": "identify", "messageId": f"m{number}", "userId": user, "traits": {"email": email}}
    )


def ordinary(count: int) -> Iterator[bytes]:
    """People whose devices are known after their first event."""
    return (track(number, f"u{number % PEOPLE}", f"d{number % PEOPLE}") for number in range(count))


def without_devices(count: int) -> Iterator[bytes]:
    """The same, with nothing to resolve."""
    return (track(number, f"u{number % PEOPLE}", None) for number in range(count))


def ordinary_addresses(count: int) -> Iterator[bytes]:
    """The same, who say their addresses."""
    return (identify(number, f"u{number % PEOPLE}", f"e{number % PEOPLE}@x.example") for number in range(count))


def newcomers(count: int) -> Iterator[bytes]:
    """Each event is of somebody new, on a device of their own."""
    return (track(number, f"u{number}", f"d{number}") for number in range(count))


def one_user_ever_new_devices(count: int) -> Iterator[bytes]:
    """A bot that signs in and has another anonymous id in every event."""
    return (track(number, "bot", f"d{number}{LONG}") for number in range(count))


def ever_new_devices_alone(count: int) -> Iterator[bytes]:
    """A bot that has another anonymous id in every event, and no other."""
    return (track(number, None, f"d{number}") for number in range(count))


def one_user_devices_with_a_past(count: int) -> Iterator[bytes]:
    """As many devices as half of the events; then one person signs in on each."""
    half = count // 2
    yield from (track(number, None, f"d{number}") for number in range(half))
    yield from (track(half + number, "u", f"d{number}") for number in range(half))


def one_device_ever_new_people(count: int) -> Iterator[bytes]:
    """A device on which everybody signs in once."""
    return (track(number, f"u{number}", "d") for number in range(count))


def one_device_that_goes_round(count: int) -> Iterator[bytes]:
    """A device on which a hundred people sign in, one after the other, ever again."""
    return (track(number, f"u{number % PEOPLE}", "d") for number in range(count))


def addresses_of_others(count: int) -> Iterator[bytes]:
    """As many people with addresses as half of the events; then one person says each of these to be theirs."""
    half = count // 2
    yield from (identify(number, f"u{number}", f"e{number}@x.example") for number in range(half))
    yield from (identify(half + number, "z", f"e{number}@x.example") for number in range(half))


def sign_ins(count: int) -> Iterator[bytes]:
    """Visitors with three events each, three quarters of all; then each signs in: each further event is a merge."""
    quarter = count // 4
    for step in range(3):
        yield from (track(step * quarter + number, None, f"d{number}") for number in range(quarter))
    yield from (track(3 * quarter + number, f"u{number}", f"d{number}") for number in range(quarter))
