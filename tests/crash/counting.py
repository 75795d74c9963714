"""A writer whose state can be told from how far it has come: what its batch of a number writes follows from the number.

Owns: the program ``python -m tests.crash.counting DIRECTORY MEMTABLE_BYTES``, which goes on from where it was until it is
killed; and what is right after each batch. Invariant: ``last`` is the number of the last batch.
Not here: reading it (test_reader_beside_writer).
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from state.rocks import RocksStore, shared_memory

PEOPLE, TIMERS, RARE, EACH_RARE, DELETED = 499, 13, 11, 50, 7
LAST = b"last"


def person(number: int) -> bytes:
    """The key of a profile."""
    return b"%03d" % number


def expected(last: int, number: int) -> int | None:
    """The batch that wrote a profile last, seen from the batch ``last``; None: none did, or one deleted it."""
    wrote = last - (last - number) % PEOPLE
    return wrote if wrote > 0 and wrote % DELETED else None


def expected_rare(last: int, number: int) -> int | None:
    """The same of the family that is seldom written."""
    wrote = last - last % EACH_RARE
    while wrote > 0 and wrote // EACH_RARE % RARE != number:
        wrote -= EACH_RARE
    return wrote if wrote > 0 else None


def main(directory: Path, memtable_bytes: int) -> None:
    """Writes until it is killed."""
    store = RocksStore(directory, shared_memory(4 << 20, memtable_bytes))
    people, timers, seen, meta = (store.family(name) for name in ("profiles", "timers", "seen", "meta"))
    number = int(store.get("meta", LAST) or 0)
    dice = random.Random(number)
    while True:
        number += 1
        batch = store.batch()
        if number % DELETED:
            batch.put(person(number % PEOPLE), b"%d %s" % (number, dice.randbytes(1_000)), people)
        else:
            batch.delete(person(number % PEOPLE), people)
        batch.put(b"%02d" % (number % TIMERS), b"%d" % number, timers)
        if number % EACH_RARE == 0:
            batch.put(b"%02d" % (number // EACH_RARE % RARE), b"%d" % number, seen)
        batch.put(LAST, b"%d" % number, meta)
        store.write(batch)
        if number % 200 == 0:
            store.sync()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
