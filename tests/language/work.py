"""The work of every story: how often each of its audiences is evaluated, in a file beside the golden ones.

Owns: ``WORK``, the counts by story, and ``python -m tests.language.work``, which writes the file anew. Counts are written
by the engine and read by people: a change that evaluates more shows in the difference of the file, and has to be meant.
Invariant: an audience that nothing in the story touches is evaluated once of each person at most; the reference evaluator says
which those are.
Not here: who compares (tests.language.test_stories), counts that a story is about (its own ``evaluated``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.language.stories import Story, stories
from tests.oracle.evaluator import Definitions
from tests.oracle.messages import Refused, read_message

FILE = Path(__file__).resolve().parents[1] / "golden" / "language" / "evaluated.txt"


def key(story: Story) -> str:
    """The name of a story in the file."""
    return f"{story.file[:-4]}: {story.story}"


def line(story: Story, evaluated: Mapping[str, int]) -> str:
    """The line of a story: its audiences that were evaluated, and how often."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(evaluated.items()) if count)
    return f"{key(story)} | {counts or 'nothing'}"


def read() -> dict[str, str]:
    """The lines of the file, by story."""
    return {text.rpartition(" | ")[0]: text for text in FILE.read_text(encoding="utf-8").splitlines()}


def untouched(story: Story) -> set[str]:
    """The audiences that no message and no row of a story can touch, by the reference evaluator's word."""
    definition = story.definition()
    messages = []
    for raw in story.records():
        try:
            messages.append(read_message(raw, definition.event_bytes_max))
        except Refused:
            continue
    if story.rows or story.refreshes or definition.computed:
        return set()
    found = set()
    for name, condition in definition.audiences.items():
        if "Member" in repr(condition) or "During" in repr(condition):
            continue
        alone = Definitions(replace(definition, audiences={name: condition}))
        if not any(alone.is_in_plan(message) for message in messages):
            found.add(name)
    return found


def main() -> None:
    """Plays all stories and writes the file."""
    from tests.language.test_stories import evaluated_of

    lines = []
    for story in stories():
        with tempfile.TemporaryDirectory() as directory:
            lines.append(line(story, evaluated_of(story, Path(directory))))
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
