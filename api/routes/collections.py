"""Warehouse rows for a page: by key, and by the value of an indexed column.

Owns: the routes, and the cursor of pages: ``VERSION-PLACE``; the next page is of the same rows as the one before.
Invariant: "no such row" (404) is said only where the table is in force.
Not here: which version answers (api.collections), rows (state.warehouse.collection).
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Query, Request, Response

from api.access import Access
from api.collections import Collections
from api.problems import Problem
from api.routes.lookups import ERRORS, split, written
from api.schemas import CollectionAnswer, CollectionsAnswer, RowAnswer, RowsAnswer
from api.shards import Shards
from opportune.event import iso_text
from state.warehouse import Collection

ROWS_MAX = 1_000
OWN = frozenset({"limit", "cursor"})
_CURSOR = re.compile(r"([0-9]{16})-([0-9]{1,10})")


def collection_routes(shards: Shards, collections: Collections, access: Access) -> APIRouter:
    """The routes of collections."""
    router = APIRouter(tags=["collections"], responses={**ERRORS, 410: ERRORS[404]})
    identity = shards.compiled.project.identity

    def table_of(name: str) -> str:
        if name not in collections.tables:
            raise Problem(404, "no_such_collection", "the project has no such table")
        return name

    async def described(name: str) -> dict[str, Any]:
        table, rows = collections.tables[name], await collections.of_all(name)
        return {
            "name": name,
            "namespace": table.namespace,
            "key": table.key,
            "columns": rows.types,
            "indexes": list(table.indexes),
            "rows": rows.manifest.rows,
            **version_of(rows),
        }

    @router.get("/v1/collections", response_model=CollectionsAnswer)
    async def all_collections(request: Request) -> Response:
        """The tables of the project: columns, indexes, and which version is in force."""
        access.check(request, "read:profiles")
        return written({"collections": [await described(name) for name in sorted(collections.tables)]})

    @router.get("/v1/collections/{table}/{key}", response_model=RowAnswer)
    async def row(request: Request, table: str, key: str) -> Response:
        """The row of a key."""
        access.check(request, "read:profiles")
        _, value = split(identity, f"{collections.tables[table_of(table)].namespace}:{key}")
        rows = await collections.of_key(table, value)
        found = rows.row(value)
        if found is None:
            raise Problem(404, "no_such_row", "the table has no row of this key")
        return written({"collection": table, **found, **version_of(rows)})

    @router.get("/v1/collections/{table}", response_model=RowsAnswer | CollectionAnswer, openapi_extra=_QUERY)
    async def matching_rows(
        request: Request,
        table: str,
        limit: int = Query(100, ge=1, le=ROWS_MAX),
        cursor: str | None = Query(None, description="next of an earlier answer"),
    ) -> Response:
        """The rows with a value: ``?COLUMN=VALUE``, of an indexed column. Without one: the table itself."""
        access.check(request, "read:profiles")
        table_of(table)
        asked = [(name, text) for name, text in request.query_params.multi_items() if name not in OWN]
        if not asked:
            return written(await described(table))
        if len(asked) > 1:
            raise Problem(400, "bad_query", "ask for one column with one value: COLUMN=VALUE")
        ((column, text),) = asked
        version, after = _place(cursor)
        rows = collections.of_version(table, version) if version else await collections.of_all(table)
        places = _places(rows, column, text, after, limit + 1)
        answer: dict[str, Any] = {"collection": table, "rows": rows.rows(places[:limit]), **version_of(rows)}
        if len(places) > limit:
            answer["next"] = f"{rows.manifest.version}-{places[limit - 1]}"
        return written(answer)

    return router


_QUERY = {
    "parameters": [
        {
            "in": "query",
            "name": "COLUMN",
            "required": False,
            "description": "the name of an indexed column, with the value that rows shall have",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
            "style": "form",
            "explode": True,
            "example": {"country": "FR"},
        }
    ]
}


def version_of(rows: Collection) -> dict[str, str]:
    """Which rows an answer is of."""
    return {"version": rows.manifest.version, "refreshed": iso_text(rows.manifest.refreshed_ms)}


def _place(cursor: str | None) -> tuple[str, int]:
    if cursor is None:
        return "", -1
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[2]) >= 1 << 32:
        raise Problem(400, "bad_cursor", "a cursor is next of an earlier answer")
    return found[1], int(found[2])


def _places(rows: Collection, column: str, text: str, after: int, count: int) -> list[int]:
    index = rows.indexes.get(column)
    if index is None:
        names = ", ".join(rows.indexes) or "none"
        raise Problem(400, "no_such_index", f"rows are found by the columns of `indexes` in warehouse.yml: {names}")
    try:
        value = rows.value_of(column, text)
    except ValueError as error:
        raise Problem(400, "bad_value", f"the value {error}: the column is of {rows.types[column]}s") from None
    return index.places(value, after, count)
