"""A process of the demo, on a leash.

Owns: starting, asking to end, and killing one process with all that it started. Invariant: it is in a session of its own,
so that Ctrl-C reaches only the process in front, which ends the others in order; what it says goes to its log file.
Not here: the other end of the leash (flows.demo.leash), the order (flows.demo.tree).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from opportune.errors import ConfigurationError

LOG_LINES = 12


class Child:
    """A Python process.

    Args:
        name: what it is, for messages and the name of its log.
        arguments: of the interpreter, for example ``["-m", "flows.demo.traffic"]``.
        directory: where its log goes, ``NAME.log``.
        orders: its first line of input, if it wants one.
        speaks: whether its output is read with ``first_line``; else it goes to the log as well.
        descriptors: open files that it gets under the same numbers.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        orders: bytes | None = None,
        *,
        speaks: bool = False,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if speaks else log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )
        assert self._process.stdin is not None
        self._leash = self._process.stdin
        if orders is not None:
            with contextlib.suppress(BrokenPipeError):
                self._leash.write(orders + b"\n")
                self._leash.flush()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def first_line(self, timeout_seconds: float) -> str:
        """What it prints first.

        Raises:
            ConfigurationError: it ended, or said nothing in time; the message has the end of its log.
        """
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            text = output.readline() if selector.select(timeout_seconds) else b""
        if not text:
            raise ConfigurationError(f"the {self.name} of the demo does not start:\n{self.last_words()}")
        return text.decode().strip()

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES:]) or "(it said nothing)"

    def let_go(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(BrokenPipeError):
            self._leash.close()

    def ended(self, timeout_seconds: float) -> bool:
        """Whether it has ended, now or within the time."""
        try:
            self._process.wait(max(timeout_seconds, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it and whatever it has started, without asking."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.let_go()
