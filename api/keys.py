"""Keys of the service: who may do what.

Owns: the key file, JSON ``{"keys": [{"id", "name", "scopes", "hash", "made", "revoked", "per_second"}]}``, readable by
its owner only and replaced as a whole; and ``Keyring``, which notices a changed file by itself.
Invariants: a key's secret is shown once, when it is made, and is nowhere kept: the file has its SHA-256, which is enough
since the secret is 192 random bits; what is compared is compared in constant time; a file that cannot be read opens
nothing. Not here: which request needs which scope (api.access, api.collector.routes).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

import msgspec

from opportune.clock import Clock, monotonic_ms
from opportune.errors import ConfigurationError

SCOPES = ("read:profiles", "read:audiences", "write:events", "erase", "admin")
KEY_FILE = "keys.json"
PREFIX = "opk"
LOOK_MS = 500
"""A change of the key file, so also a revocation, is noticed after so long at most."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key, without its secret.

    Args:
        id: public, 12 hexadecimal digits.
        name: what people call it; of a write key the name of the source.
        scopes: what it may do; ``admin`` may read everything.
        hash: SHA-256 of the secret, hexadecimal.
        made: when, ISO 8601.
        revoked: when, or None.
        per_second: requests a second that it may make; 0 is no limit.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    hash: str
    made: str
    revoked: str | None = None
    per_second: int = 0

    def may(self, scope: str) -> bool:
        """Whether the key has a scope. ``admin`` has those of reading, and never the one of writing."""
        return scope in self.scopes or ("admin" in self.scopes and scope.startswith("read:"))


class KeyFile(msgspec.Struct, frozen=True):
    """What the file holds."""

    keys: tuple[Key, ...] = ()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file; none where there is no file. Raises ``ConfigurationError`` for one that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyFile).keys
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: the keys cannot be read ({error}): put back a copy, or make new keys."
        ) from error


def write_keys(path: Path, keys: tuple[Key, ...]) -> None:
    """Replaces the file as a whole; readable by its owner only. Raises ``ConfigurationError`` where it cannot."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(KeyFile(keys))) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the keys cannot be written ({error}).") from error


def make_key(name: str, scopes: tuple[str, ...], made: str, per_second: int = 0) -> tuple[Key, str]:
    """A new key and its text, which is shown once.

    Raises:
        ConfigurationError: an unknown scope, or write:events together with another: write keys stand in web pages.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ConfigurationError(f"unknown scope {', '.join(unknown) or '(none)'}: there are {', '.join(SCOPES)}.")
    if "write:events" in scopes and len(set(scopes)) > 1:
        raise ConfigurationError("write:events stands alone: write keys are public, in every page. Make two keys.")
    number, secret = secrets.token_hex(6), secrets.token_hex(24)
    key = Key(id=number, name=name, scopes=tuple(scopes), hash=_hash(secret), made=made, per_second=per_second)
    return key, f"{PREFIX}_{number}_{secret}"


class Keyring:
    """The keys in force.

    Args:
        path: the key file; None: there are none.
        clock: monotonic milliseconds.

    Raises:
        ConfigurationError: the file cannot be read.
    """

    def __init__(self, path: Path | None, clock: Clock = monotonic_ms) -> None:
        self._path = path
        self._clock = clock
        self._looked_ms = clock()
        self._stamp = _stamp(path)
        self._keys = {key.id: key for key in read_keys(path)} if path is not None else {}
        self._guarded = bool(self._keys)

    @property
    def guarded(self) -> bool:
        """Whether keys are needed: once one was made, for ever, also after the last is revoked or the file is gone."""
        self._look()
        return self._guarded

    def find(self, text: str) -> Key | None:
        """The key that a text is, or None: unknown, revoked or malformed."""
        self._look()
        _, _, rest = text.strip().partition(f"{PREFIX}_")
        number, _, secret = rest.partition("_")
        key = self._keys.get(number)
        # An unknown id costs the same comparison as a wrong secret.
        same = hmac.compare_digest(_hash(secret), key.hash if key is not None else "0" * 64)
        return key if key is not None and same and key.revoked is None else None

    def _look(self) -> None:
        now = self._clock()
        if self._path is None or now - self._looked_ms < LOOK_MS:
            return
        self._looked_ms = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._keys = {key.id: key for key in read_keys(self._path)}
        except ConfigurationError:
            self._keys = {}
        self._stamp = stamp
        self._guarded = self._guarded or stamp is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
