"""The unmodified client libraries from PyPI send to the collector; every call comes to the topic."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from tests.api.conftest import Served

with warnings.catch_warnings():
    # They import what newer Pythons deprecate.
    warnings.simplefilter("ignore")
    segment = pytest.importorskip("segment.analytics.client")
    rudder = pytest.importorskip("rudderstack.analytics.client")


def drive(client: Any) -> None:
    """One call of each kind, and more than one batch."""
    client.identify("user-1", {"plan": "free"})
    client.track("user-1", "Bought", {"price": 9.95})
    client.page("user-1", "Docs", "Pricing")
    client.screen("user-1", "App", "Home")
    client.group("user-1", "team-1", {"name": "Team"})
    client.alias("anon-1", "user-1")
    for number in range(250):
        client.track("user-2", "Seen", {"number": number})
    client.flush()
    client.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", [{"gzip": False}, {"gzip": True}], ids=["plain", "gzip"])
@pytest.mark.parametrize("library", [segment, rudder], ids=["segment", "rudder"])
def test_every_call_comes_to_the_topic(served: Served, library: Any, options: dict[str, Any]) -> None:
    errors: list[Exception] = []
    client = library.Client(
        served.write_key, host=served.address, on_error=lambda error, _: errors.append(error), **options
    )
    drive(client)
    assert errors == []
    found = served.topic.new()
    assert len(found) == 256
    assert {one["type"] for one in found} == {"identify", "track", "page", "screen", "group", "alias"}
    assert sorted(one["properties"]["number"] for one in found if one.get("event") == "Seen") == list(range(250))
    assert all(one["source"] == "web" and one["timestamp"] and one["messageId"] for one in found)
