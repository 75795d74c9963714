"""What browser libraries fetch before they send.

Owns: the smallest documents that make them start, found by trying (docs/collector.md names the libraries).
Not here: their routes (api.collector.routes).
"""

from __future__ import annotations

from typing import Any

MADE_AT = "2024-01-01T00:00:00.000Z"


def segment_settings(write_key: str, host: str, scheme: str) -> dict[str, Any]:
    """For ``@segment/analytics-next``: where to send, and that everything may be sent."""
    allowed = {"__default": {"enabled": True}}
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "unbundledIntegrations": [],
                "apiHost": f"{host}/v1",
                "protocol": scheme,
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
            }
        },
        "plan": {
            "track": {"__default": {"enabled": True, "integrations": {}}},
            "identify": allowed,
            "group": allowed,
        },
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }


def rudder_source_config(write_key: str) -> dict[str, Any]:
    """For ``@rudderstack/analytics-js``: an enabled source without destinations."""
    quiet = {"errors": {"enabled": False}, "metrics": {"enabled": False}}
    return {
        "source": {
            "id": "opportune",
            "name": "opportune",
            "writeKey": write_key,
            "enabled": True,
            "workspaceId": "opportune",
            "config": {"statsCollection": quiet},
            "connections": [],
            "destinations": [],
            "dataplanes": {},
            "updatedAt": MADE_AT,
        },
        "updatedAt": MADE_AT,
    }
