"""How many identifiers a profile may have, and which of them stay with it.

Owns: counting. Not here: the settings (opportune.identifiers), what happens at a limit (flows.identity.graph).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from opportune.identifiers import IdentitySettings


class Limits:
    """The limits of a project.

    Args:
        settings: identity.yml.
    """

    def __init__(self, settings: IdentitySettings) -> None:
        self._limits = {namespace.name: namespace.limit for namespace in settings.namespaces}
        self._shared = {namespace.name for namespace in settings.namespaces if namespace.shared}

    def passed(self, texts: Iterable[str]) -> bool:
        """Whether one profile may not have all of these."""
        counts = Counter(namespace_of(text) for text in set(texts))
        return any(count > self._limits.get(namespace, 0) for namespace, count in counts.items())

    def has_room(self, texts: Iterable[str], text: str) -> bool:
        """Whether a profile that has, or has claimed, some identifiers may have one more."""
        namespace = namespace_of(text)
        have = sum(namespace_of(other) == namespace for other in texts)
        return have < self._limits.get(namespace, 0)

    def is_shared(self, text: str) -> bool:
        """Whether the thing may change hands."""
        return namespace_of(text) in self._shared

    def strong(self, texts: Iterable[str]) -> list[str]:
        """Those that cannot change hands: what they exclude stays excluded."""
        return [text for text in texts if namespace_of(text) not in self._shared]


def namespace_of(text: str) -> str:
    """The namespace of a ``namespace:value`` text."""
    return text.partition(":")[0]
