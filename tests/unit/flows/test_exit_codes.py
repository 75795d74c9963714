from __future__ import annotations

import pytest

from flows import exit_codes
from opportune.errors import ConfigurationError, DefinitionError, StateError, TransientError


@pytest.mark.parametrize(
    ("error", "code", "final"),
    [
        (ConfigurationError(), exit_codes.CONFIGURATION, True),
        (DefinitionError(), exit_codes.CONFIGURATION, True),
        (StateError(), exit_codes.STATE, True),
        (TransientError(), exit_codes.TRANSIENT, False),
        (AssertionError(), exit_codes.BUG, False),
        (KeyError(), exit_codes.BUG, False),
    ],
)
def test_only_what_a_restart_cannot_help_is_final(error: Exception, code: int, final: bool) -> None:
    assert exit_codes.exit_code_of(error) == code
    assert (code in exit_codes.FINAL) is final


def test_all_codes_differ() -> None:
    codes = [value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)]
    assert len(set(codes)) == len(codes) == 9
