"""Stories: what happens over time, and who must be in which audience when.

Owns: the values. A story is a list of rows in order of arrival; the story's clock is the greatest instant so far, and it
goes on with each row, whether something happens in it or something is only looked at.
Not here: their YAML (opportune.audiences.story_file, story_rows), playing them (flows.replay_story).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from opportune.audiences.schema import Scalar, Span

Kind: TypeAlias = Literal["in", "out", "entered", "exited", "members"]
Rows: TypeAlias = tuple[dict[str, Scalar | None], ...]
"""Rows of a warehouse table: values by column."""


class Expectation(msgspec.Struct, frozen=True):
    """What must be true of an audience when its row's instant is over.

    Args:
        kind: ``in`` and ``out``: membership; ``entered`` and ``exited``: a change at exactly this instant; ``members``:
            these people and nobody else are in.
        audience: its name.
        people: as the story calls them: a user id, or ``namespace:value``. Empty only for ``members``: nobody.
        span: where it is written.
    """

    kind: Kind
    audience: str
    people: tuple[str, ...]
    span: Span


class Row(msgspec.Struct, frozen=True):
    """One row.

    Args:
        now_ms: the story's clock when the row is over, milliseconds since the epoch.
        at_ms: the time of what happens; earlier than the clock for what arrives late.
        text: what happens, in one line; empty where the row only looks.
        message: of an event, as a sender would send it; None where there is none.
        tables: the warehouse tables that come into force, by name.
        refused: the reason for which the event must be refused; None: it must not be.
        expectations: what must be true when the instant is over.
        span: where the row is.
    """

    now_ms: int
    at_ms: int
    text: str
    message: dict[str, Any] | None
    tables: dict[str, Rows]
    refused: str | None
    expectations: tuple[Expectation, ...]
    span: Span


class Story(msgspec.Struct, frozen=True):
    """One story.

    Args:
        name: a sentence; unique in the project.
        description: for people.
        warehouse: the rows of tables before the first event, by name; tables that are not named are empty.
        rows: the timeline; never empty.
        span: where it is.
    """

    name: str
    description: str
    warehouse: dict[str, Rows]
    rows: tuple[Row, ...]
    span: Span
