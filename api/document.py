"""The OpenAPI document, made true where the framework cannot say it.

Owns: the media type of problem documents: routes name their model, and the framework then promises ``application/json``.
Invariant: the document is what tests/api/test_openapi.py holds the running service to.
Not here: models (api.schemas, api.collector.routes), which route has which (the routes).
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from api.problems import MEDIA_TYPE

PROBLEM = {"$ref": "#/components/schemas/ProblemAnswer"}
PLAIN = "application/json"


def install(app: FastAPI) -> None:
    """Makes an application tell its document so."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in made()["paths"].values():
                for operation in path.values():
                    for response in operation["responses"].values():
                        _tell(response.get("content", {}))
        assert app.openapi_schema is not None, "it was just made"
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _tell(content: dict[str, Any]) -> None:
    if content.get(PLAIN, {}).get("schema") == PROBLEM:
        content[MEDIA_TYPE] = content.pop(PLAIN)
