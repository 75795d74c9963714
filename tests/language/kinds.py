"""Which kinds of conditions a story has, so that those that the engine lacks are listed by kind (pending.yml).

Owns: the names of the kinds. A kind that is not in pending.yml is one that the engine has.
"""

from __future__ import annotations

from collections.abc import Iterator

from ruamel.yaml import YAML

from tests.language.stories import HERE, Story
from tests.oracle.reading import CALENDAR, FUNCTIONS

KEYS = (*FUNCTIONS, "sequence", "absent", "near", "during")
WINDOWS = ("session", *CALENDAR)
KNOWN = {*KEYS, *WINDOWS, "operand", "computed trait"}


def kinds(story: Story) -> set[str]:
    """The kinds that a story needs, beyond counts, values and combinations."""
    found = kinds_of([story.audiences, story.traits])
    return found | {"computed trait"} if story.traits else found


def kinds_of(said: object) -> set[str]:
    """The kinds in YAML, computed traits aside."""
    return set(_of(said))


def pending() -> set[str]:
    """The kinds that the engine does not have yet."""
    return set(YAML(typ="safe", pure=True).load(HERE / "pending.yml") or ())


def _of(said: object) -> Iterator[str]:
    if isinstance(said, list):
        for each in said:
            yield from _of(each)
    if isinstance(said, dict):
        for key, value in said.items():
            if key in KEYS:
                yield key
            if key == "within" and value in WINDOWS:
                yield value
            # The operand of a comparison is a mapping only where it is another value of the person.
            if key in ("eq", "ne", "gt", "gte", "lt", "lte") and isinstance(value, dict):
                yield "operand"
            if key not in ("where", "is", "times") or key == "is":
                yield from _of(value)
