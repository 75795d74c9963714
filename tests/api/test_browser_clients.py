"""The unmodified browser libraries, in a real Chromium on a page of another origin, send to the collector."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.api.conftest import Served
from tests.api.serving import NODE_MODULES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPT = Path(__file__).with_name("browser_page.cjs")
PACKAGES = {"segment": "@segment/analytics-next", "hightouch": "@ht-sdks/events-sdk-js-browser"}
SECONDS = 150

pytestmark = [
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not (NODE_MODULES / "playwright-core").exists() or shutil.which("node") is None,
        reason="playwright-core is not installed (make setup-clients), or there is no node",
    ),
]


@pytest.mark.parametrize("library", sorted(PACKAGES))
def test_what_a_page_does_comes_to_the_topic(served: Served, library: str) -> None:
    assert CHROMIUM is not None
    if not (NODE_MODULES / PACKAGES[library]).exists():
        pytest.skip(f"{PACKAGES[library]} is not installed")
    done = subprocess.run(
        ["node", str(SCRIPT), library, served.address, served.write_key, CHROMIUM],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = served.topic.new()
    seen = [one for one in found if one.get("event") == "Seen"]
    assert sorted(one["properties"]["number"] for one in seen) == list(range(20))
    assert {one["type"] for one in found} == {"identify", "page", "group", "alias", "track"}
    assert all(one["userId"] == "user-1" and one["anonymousId"] for one in seen)
    assert all(one["source"] == "web" and one["messageId"] and one["timestamp"] for one in found)
    assert all("writeKey" not in one for one in found)
