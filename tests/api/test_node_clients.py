"""The unmodified client libraries from npm send to the collector; every call comes to the topic."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.api.conftest import Served
from tests.api.serving import NODE_MODULES

PACKAGES = {"segment": "@segment/analytics-node", "rudder": "@rudderstack/rudder-sdk-node"}
SCRIPT = Path(__file__).with_name("node_client.cjs")

pytestmark = pytest.mark.skipif(
    not NODE_MODULES.exists() or shutil.which("node") is None,
    reason="the clients of npm are not installed (make setup-clients), or there is no node",
)


@pytest.mark.parametrize("library", sorted(PACKAGES))
def test_every_call_comes_to_the_topic(served: Served, library: str) -> None:
    if not (NODE_MODULES / PACKAGES[library]).exists():
        pytest.skip(f"{PACKAGES[library]} is not installed")
    done = subprocess.run(
        ["node", str(SCRIPT), library, served.address, served.write_key],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = served.topic.new()
    assert sorted(one["properties"]["number"] for one in found if one.get("event") == "Seen") == list(range(100))
    assert sorted(one["type"] for one in found if one["type"] != "track") == ["alias", "group", "identify", "page"]
    assert all(one["source"] == "web" and one["timestamp"] and one["messageId"] for one in found)
