"""How many identifiers a profile may have, and which of them stay with it.

Owns: counting. The limits are those of identity.yml, and IDENTIFIERS_BYTES for all of a profile's identifiers together, so
that a head has an upper bound whatever a sender does.
Not here: the settings (opportune.identifiers), what happens at a limit (flows.identity.graph).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from opportune.identifiers import IdentitySettings
from opportune.profile import ELSEWHERE, Profile

IDENTIFIERS_BYTES = 24 << 10
"""Of the texts of a profile's identifiers: 1,000 of 24 bytes, 500 of the usual random ones."""
STRONG_BYTES = 1_024


class Limits:
    """The limits of a project.

    Args:
        settings: identity.yml.
    """

    def __init__(self, settings: IdentitySettings) -> None:
        self._limits = {namespace.name: namespace.limit for namespace in settings.namespaces}
        self._full: set[tuple[bytes, str]] = set()
        self._shared = {namespace.name for namespace in settings.namespaces if namespace.shared}

    def passed(self, texts: Iterable[str]) -> bool:
        """Whether one profile may not have all of these."""
        different = set(texts)
        counts = Counter(namespace_of(text) for text in different)
        if any(count > self._limits.get(namespace, 0) for namespace, count in counts.items()):
            return True
        return size_of(different) > IDENTIFIERS_BYTES

    def strong_of(self, pointer: Profile) -> list[str]:
        """What the owner of an identifier surely has that cannot change hands, by its pointer; it may have more."""
        return pointer.strong if pointer.fate & ELSEWHERE else self.strong(pointer.identifiers)

    def excluded(self, strong: Sequence[str], other: Sequence[str]) -> bool:
        """Whether identifiers that cannot change hands keep two profiles apart for ever: each keeps what it has."""
        return bool(strong) and bool(other) and self.passed([*strong, *other])

    def has_room(self, profile: Profile, text: str) -> bool:
        """Whether a profile may have one identifier more than it has and has claimed; once full, until ``look_again``."""
        namespace = namespace_of(text)
        if (profile.id, namespace) in self._full:
            return False
        texts, prefix = {*profile.identifiers, *profile.pending}, namespace + ":"
        have = [other.startswith(prefix) for other in texts].count(True)
        if have < self._limits.get(namespace, 0) and size_of(texts) + len(text.encode()) <= IDENTIFIERS_BYTES:
            return True
        self._full.add((profile.id, namespace))
        return False

    def look_again(self) -> None:
        """Profiles may have other identifiers than they had."""
        self._full.clear()

    def is_shared(self, text: str) -> bool:
        """Whether the thing may change hands."""
        return namespace_of(text) in self._shared

    def strong(self, texts: Iterable[str]) -> list[str]:
        """Those that cannot change hands: what they exclude stays excluded."""
        return [text for text in texts if namespace_of(text) not in self._shared]


def namespace_of(text: str) -> str:
    """The namespace of a ``namespace:value`` text."""
    return text.partition(":")[0]


def size_of(texts: Iterable[str]) -> int:
    """Bytes of texts."""
    return sum(map(len, map(str.encode, texts)))


def shortened(strong: Sequence[str]) -> list[str]:
    """As many of some identifiers as a pointer keeps of its owner: fewer exclude less, and never too much."""
    kept, size = [], 0
    for text in strong:
        size += len(text.encode())
        if size > STRONG_BYTES:
            break
        kept.append(text)
    return kept
