"""A project directory, loaded and validated.

Owns: the value that everything else starts from. ``load`` (opportune.audiences.loader) makes it and reports every error at once.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from opportune.audiences.schema import AttributeValue, Audience, ComputedTrait, EventModel, Table
from opportune.identifiers import IdentitySettings
from opportune.settings import Settings


class Project(msgspec.Struct, frozen=True):
    """A project: what its files say.

    Args:
        name: ``name`` of opportune.yml; names topics and marks the state directory.
        directory: where the files are; relative paths in them start here.
        settings: the rest of opportune.yml.
        models: the event models of events.yml, by name.
        tables: the tables of warehouse.yml, by name.
        audiences: all audiences in order of name; a nested audience is a reference by name, free of cycles.
        identity: identity.yml.
        computed: the computed traits of traits/*.yml, in order of name.
        timezone_column: the column ``timezone``, where one table alone has it.
    """

    name: str
    directory: Path
    settings: Settings
    models: dict[str, EventModel]
    tables: dict[str, Table]
    audiences: tuple[Audience, ...]
    identity: IdentitySettings = IdentitySettings()
    computed: tuple[ComputedTrait, ...] = ()
    timezone_column: AttributeValue | None = None
