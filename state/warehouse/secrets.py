"""Secrets of sources: named in warehouse.yml, read from the environment, never shown.

Owns: ``${NAME}`` in sources and options, and the masking of what it stood for in every text that is shown.
Invariant: no text that ``masked`` gives holds a value that ``resolved`` put in, nor a password of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from opportune.errors import ConfigurationError

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^@\s]*(?=@)")
SHOWN = "***"


class Secrets:
    """The environment as sources see it.

    Args:
        environment: variables by name.
        table: whose source it is, for errors.
    """

    def __init__(self, environment: Mapping[str, str], table: str) -> None:
        self._environment = environment
        self._table = table
        self._used: set[str] = set()

    def resolved(self, text: str) -> str:
        """The text with the values of the variables that it names.

        Raises:
            ConfigurationError: one of them is not set.
        """
        return _NAME.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        value = self._environment.get(found[1])
        if value is None:
            raise ConfigurationError(
                f"table {self._table!r}: warehouse.yml names the environment variable {found[1]}, which is not set; set it "
                "for this process"
            )
        if value:
            self._used.add(value)
        return value

    def masked(self, text: str) -> str:
        """The text with what must not be shown replaced."""
        for value in sorted(self._used, key=len, reverse=True):
            text = text.replace(value, SHOWN)
        return masked(text)


def masked(text: str) -> str:
    """The text without the passwords of URLs."""
    return _PASSWORD.sub(rf"\1:{SHOWN}", text)
