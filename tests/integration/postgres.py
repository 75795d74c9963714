"""A PostgreSQL of one test run: its own data directory, on the loopback, gone afterwards.

Owns: finding the server's programs (Debian keeps them off the PATH) and running them as somebody who is not root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where initdb and pg_ctl are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).resolve().parent if there else None


@contextmanager
def server(binaries: Path) -> Iterator[str]:
    """A running server; gives its URI."""
    directory = Path(tempfile.mkdtemp(prefix="opportune-postgres-"))
    try:
        as_whom = _unprivileged(directory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = directory / "data"
        run = [*as_whom, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "tester", "--no-sync"]
        subprocess.run(run, check=True, capture_output=True, timeout=60)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={directory} -c fsync=off"
        control = [*as_whom, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-o", options]
        subprocess.run([*control, "-l", str(directory / "log"), "start"], check=True, capture_output=True, timeout=60)
        try:
            yield f"postgresql://tester:hidden@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, timeout=60)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unprivileged(directory: Path) -> list[str]:
    """What to put before a command so that it does not run as root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return []
    owner = pwd.getpwnam("postgres")
    os.chown(directory, owner.pw_uid, owner.pw_gid)
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
