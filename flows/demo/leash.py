"""How a process of the demo ends when the process that started it does.

Owns: the leash, a pipe that a child has as its standard input. The parent never writes to it; its end, by ``close`` or
because the parent is gone in whatever way, ends the child. Invariant: no child outlives its parent, not even after
SIGKILL. Not here: which processes there are and in which order they end (flows.demo.tree).

    python -m flows.demo.leash MODULE ARGUMENT...     runs a module that knows nothing of it on a leash
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def wait_for_parent_to_end() -> None:
    """Block until the leash is let go."""
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 4096):
        pass


def end_with_parent() -> None:
    """Send SIGTERM to this process when the leash is let go, so that it ends as it does when asked to."""

    def watch() -> None:
        wait_for_parent_to_end()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="leash", daemon=True).start()


def ignore_keyboard() -> None:
    """Leave Ctrl-C to the parent, which ends everything in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    ignore_keyboard()
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
