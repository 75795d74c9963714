"""The errors of the project, one class for each way of handling it.

Owns: the hierarchy. A new class exists only where somebody handles it differently; the text of a message is not API.
Not here: diagnostics of a project directory, which are collected, never raised one by one (opportune.audiences.diagnostics).
"""

from __future__ import annotations


class OpportuneError(Exception):
    """Everything that Opportune raises on purpose."""


class DefinitionError(OpportuneError):
    """The author of a project has something to fix; ``str()`` is the whole report, all errors with file, line and column."""


class RejectedEvent(OpportuneError):
    """An event is refused for good: it goes to the dead letters and the flow goes on.

    Args:
        reason: one word of ``opportune.event.REASONS``.
        detail: what was wrong, for the person who sent the event.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TransientError(OpportuneError):
    """Nothing has changed and waiting can help: back off and retry."""


class StateError(OpportuneError):
    """A shard's state cannot be used as it is: stop, and say what an operator has to do."""


class ConfigurationError(OpportuneError):
    """A setting or the installation is wrong: stop, and name the setting."""


class ReadRefused(OpportuneError):
    """A reader cannot answer now: not ready, or not as fresh as asked."""
