"""Which sentences of docs/sentences.md no story pins: ``python -m tests.language.coverage``.

Owns: how ``says`` of a story finds its sentence: by words of it, marks and case aside; exactly one sentence has them.
Not here: stories (tests.language.stories), whether they hold (tests.language.test_stories).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from tests.conftest import ROOT
from tests.language.stories import Story, stories

PAGE = ROOT / "docs" / "sentences.md"


def sentences() -> list[str]:
    """All sentences of the page, in order."""
    return re.findall(r"^- (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def pinned(story: Story) -> list[str]:
    """The sentences that a story pins. Raises ``LookupError`` where its words are in none, or in several."""
    found = []
    for words in [story.says] if isinstance(story.says, str) else story.says:
        having = [each for each in sentences() if _plain(words) in _plain(each)]
        exact = [each for each in having if _plain(words) == _plain(each)]
        if len(exact or having) != 1:
            raise LookupError(f"{story.file}: {story.story}: {len(having)} sentences have the words {words!r}")
        found += exact or having
    return found


def without_story(told: Iterable[Story]) -> list[str]:
    """The sentences that none of these stories pins."""
    covered = {sentence for story in told for sentence in pinned(story)}
    return [sentence for sentence in sentences() if sentence not in covered]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w.<>=+\-]+", text.replace("`", "").lower().replace(". ", " "))).rstrip(".")


if __name__ == "__main__":
    missing = without_story(stories())
    sys.stdout.write("".join(f"no story: {sentence}\n" for sentence in missing))
    sys.exit(1 if missing else 0)
