"""What the exit codes of the worker, and of a refresh, mean.

Owns: the codes and which error ends with which. The supervisor (flows.supervisor) restarts on every code but those of
``FINAL``. Where sysexits.h has a fitting number, it is taken.
Not here: when a worker ends (flows.watchdog, flows.deaths, and whoever runs the loop).
"""

from __future__ import annotations

from opportune.errors import ConfigurationError, DefinitionError, StateError, TransientError

CLEAN = 0
HELD = 3
"""Of ``opportune warehouse refresh``: the guard holds a snapshot back, somebody has to look."""
STATE = 65
"""The state or the topics cannot be used as they are: an operator acts."""
BUG = 70
"""Something raised in our own code: recovery replays."""
TRANSIENT = 75
"""Nothing changed and waiting can help."""
CONFIGURATION = 78
"""A setting or a definition is wrong: an author acts."""
PLANNED_RESTART = 85
"""The worker asks to be started again at once, for example to take in new partitions."""
WATCHDOG = 86
"""The worker hung."""
ORPHANED = 87
"""The supervisor is gone."""

FINAL = frozenset({CLEAN, STATE, CONFIGURATION})
"""Codes after which a restart cannot help."""


def exit_code_of(error: BaseException) -> int:
    """The code with which a worker that was ended by ``error`` exits."""
    if isinstance(error, ConfigurationError | DefinitionError):
        return CONFIGURATION
    if isinstance(error, StateError):
        return STATE
    if isinstance(error, TransientError):
        return TRANSIENT
    return BUG
