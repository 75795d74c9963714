"""Log lines: plain text on standard error, one event a line.

Owns: the format. Invariant, kept by those who log: no line carries an identifier's value, a payload or a secret; records
are named by topic, partition and offset.
Not here: counters (flows.metrics).
"""

from __future__ import annotations

import logging
import sys
import time

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def configure(level: str = "INFO") -> None:
    """Sends the log of this process to standard error. Call once, at the start of a process.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    formatter = logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
