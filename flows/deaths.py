"""Deaths of the worker: which record kills it, and when that record is given up.

Owns: two files in the state directory, and the judgement made from them at every start.

    deaths.json  what is known: suspects with their deaths, quarantined records, deaths of the last hour (replaced, synced)
    attempting   the record that is being applied alone: one line of 320 bytes, ``topic partition offset``, written in
                 place before each such record (the process dies here, not the machine, so nothing is synced)

The course of a record that kills:

    raises        `failed(record)`; after ``poison.deaths`` deaths it is applied alone; kills again: quarantined
    kills hard    (segfault, watchdog, out of memory) nobody knows the record: an input that has records waiting and has not
                  moved over ``poison.deaths`` hard deaths makes the next run careful: each record is applied alone behind
                  the marker. The record of the marker is tried alone once more; kills again: quarantined

Invariant: a record is quarantined only if it alone was being applied at two deaths, or raised when it was applied alone.
So whoever kills the process at random quarantines nothing. Deaths by TransientError, or by an error that an operator or
author has to answer, are no deaths.
The budget: more than ``poison.budget_an_hour`` records to give up within an hour, or more than ``budget_an_hour x
(deaths + 1)`` deaths without progress, are no poison but a defect: the job stops.
Not here: restarting (flows.supervisor), dead-lettering what is quarantined (the actor's source of records).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from opportune.clock import Clock, wall_clock_ms
from opportune.errors import ConfigurationError, DefinitionError, StateError, TransientError
from opportune.settings import Poison

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
CAREFUL_RECORDS = 20_000
"""Records that a careful run applies alone before it is careful no more: more than one poll can hold."""
MARK_BYTES = 320
QUARANTINED_MAX = 1_000


class Record(NamedTuple):
    """A record of the log."""

    topic: str
    partition: int
    offset: int


class Mode(msgspec.Struct, frozen=True):
    """How this run applies records.

    Args:
        careful: every record is applied alone, after ``Deaths.attempting``.
        alone: records that are applied alone, after ``Deaths.attempting``, in any case.
        quarantined: records that are not applied: they go to the dead letters with reason ``poison``.
    """

    careful: bool
    alone: frozenset[Record]
    quarantined: frozenset[Record]


class _Suspect(msgspec.Struct):
    record: Record
    deaths: int = 0
    hits: int = 0
    """Deaths at which it was being applied alone."""


class _Quarantined(msgspec.Struct):
    record: Record
    at_ms: int
    why: str


class _Book(msgspec.Struct):
    """deaths.json, format 1."""

    format: int = 1
    running: bool = False
    suspects: list[_Suspect] = []
    quarantined: list[_Quarantined] = []
    applied: dict[str, int] = {}
    waiting: list[str] = []
    counted: bool = False
    stuck: dict[str, int] = {}
    careful_left: int = 0
    deaths_ms: list[int] = []


class Deaths:
    """The accounting of one worker. Belongs to one thread.

    Args:
        directory: the state directory.
        poison: ``poison`` of opportune.yml.
        clock: the wall clock; it must go on over restarts.
    """

    def __init__(self, directory: Path, poison: Poison, clock: Clock = wall_clock_ms) -> None:
        self._path = directory / "deaths.json"
        self._mark_path = directory / "attempting"
        self._poison = poison
        self._clock = clock
        self._book = _Book()
        self._mark: int | None = None
        self._attempted: Record | None = None
        self._alone: set[Record] = set()

    def start(self, applied: Mapping[str, int], waiting: Iterable[str]) -> Mode:
        """Judges how the last run ended, and says how this one is to go.

        Args:
            applied: the position of each input, by any stable name (such as ``shard/topic/partition``).
            waiting: the inputs that are not read to their end: only those can be seen to stand still.

        Raises:
            StateError: the budget is spent, or a record is to be given up and ``poison.action`` is ``stop``.
        """
        book = self._book = self._read()
        if book.running:
            self._judge_hard_death(applied)
        book.applied = dict(applied)
        book.waiting = sorted(waiting)
        book.running, book.counted = True, False
        self._clear_mark()
        self._write()
        self._alone = {each.record for each in book.suspects if each.hits or each.deaths >= self._poison.deaths}
        mode = Mode(book.careful_left > 0, frozenset(self._alone), frozenset(each.record for each in book.quarantined))
        if mode.careful:
            log.warning(
                "hard deaths without progress: records are applied one by one until the one that kills is found"
            )
        return mode

    def attempting(self, record: Record) -> None:
        """Writes the marker before a record is applied alone. What was attempted before has passed."""
        self._passed()
        if self._mark is None:
            self._mark = os.open(self._mark_path, os.O_WRONLY | os.O_CREAT, 0o644)
        line = f"{record.topic} {record.partition} {record.offset}".encode().ljust(MARK_BYTES - 1) + b"\n"
        os.pwrite(self._mark, line, 0)
        self._attempted = record

    def failed(self, record: Record | None, error: BaseException) -> None:
        """Records why the process is about to die. Call once, then end the process.

        Args:
            record: the record that was being applied, if it is known.
            error: what was raised.

        Raises:
            StateError: as ``start``.
        """
        book = self._book
        book.running = False
        alone = record is not None and record in (self._alone | {self._attempted})
        if isinstance(error, TransientError | StateError | ConfigurationError | DefinitionError):
            self._write()
            return
        if record is None:
            # Like a hard death: the next start looks at the inputs, and at the marker.
            book.running = book.counted = True
            self._died()
            self._write()
            return
        suspect = self._suspect(record)
        suspect.deaths += 1
        why = f"{type(error).__name__} when applied alone"
        self._clear_mark()
        self._died()
        if alone and suspect.deaths > self._poison.deaths:
            self._give_up(suspect, why)
        self._write()

    def progress(self, applied: int) -> bool:
        """Tells how many records this run has applied alone since the last call.

        Returns:
            Whether the run is still to be careful.
        """
        self._passed()
        book = self._book
        if book.careful_left:
            book.careful_left = max(0, book.careful_left - applied)
            if not book.careful_left:
                book.stuck.clear()
                log.info("no record killed: records are applied in batches again")
            self._write()
        return book.careful_left > 0

    def stopped(self) -> None:
        """Records a clean end."""
        self._passed()
        self._book.running = False
        self._write()
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None

    def _judge_hard_death(self, applied: Mapping[str, int]) -> None:
        """The last run ended without a word: looks at the marker, and at the inputs that stand still."""
        book = self._book
        marked = self._marked()
        if marked is not None:
            suspect = self._suspect(marked)
            suspect.hits += 1
            if suspect.hits >= 2:
                self._give_up(suspect, "it ended the process each time it was applied alone")
                book.stuck.clear()
        still = [name for name in book.waiting if applied.get(name) == book.applied.get(name)]
        book.stuck = {name: book.stuck.get(name, 0) + 1 for name in still}
        if not book.careful_left and any(count >= self._poison.deaths for count in book.stuck.values()):
            book.careful_left = CAREFUL_RECORDS
        progress = any(position != book.applied.get(name) for name, position in applied.items())
        if not progress and not book.counted:
            self._died()

    def _suspect(self, record: Record) -> _Suspect:
        for suspect in self._book.suspects:
            if suspect.record == record:
                return suspect
        suspect = _Suspect(record)
        # The oldest goes: a record that is applied later without a death is never reported as passed.
        self._book.suspects = [*self._book.suspects[-99:], suspect]
        return suspect

    def _passed(self) -> None:
        """The record that was attempted has not killed: it is no suspect."""
        if self._attempted is None:
            return
        if any(each.record == self._attempted for each in self._book.suspects):
            self._book.suspects = [each for each in self._book.suspects if each.record != self._attempted]
            self._alone.discard(self._attempted)
            self._write()
        self._attempted = None
        self._clear_mark()

    def _give_up(self, suspect: _Suspect, why: str) -> None:
        topic, partition, offset = suspect.record
        where = f"{topic}[{partition}] at offset {offset}"
        if self._poison.action == "stop":
            self._write()
            raise StateError(
                f"the record of {where} kills the process: {why}. poison.action of opportune.yml is stop; set it to "
                "quarantine to send the record to the dead letters and go on, or install a version that can apply it."
            )
        now = self._clock()
        recent = sum(1 for each in self._book.quarantined if now - each.at_ms < HOUR_MS)
        if recent >= self._poison.budget_an_hour:
            self._write()
            raise StateError(
                f"{recent} records were given up within an hour (poison.budget_an_hour), and that of {where} would be the "
                f"next: {why}. This is no poison but a defect, or a damaged topic: look at the log before starting again."
            )
        log.error(
            "quarantined: the record of %s kills the process: %s. It goes to the dead letters (poison)", where, why
        )
        book = self._book
        book.suspects = [each for each in book.suspects if each is not suspect]
        book.quarantined = [*book.quarantined[-QUARANTINED_MAX + 1 :], _Quarantined(suspect.record, now, why)]

    def _died(self) -> None:
        now = self._clock()
        book = self._book
        book.deaths_ms = [at for at in book.deaths_ms if now - at < HOUR_MS] + [now]
        limit = self._poison.budget_an_hour * (self._poison.deaths + 1)
        if len(book.deaths_ms) > limit:
            book.running = False
            self._write()
            raise StateError(
                f"the worker died {len(book.deaths_ms)} times within an hour without getting on, more than its budget of "
                f"{limit} (poison.budget_an_hour x (poison.deaths + 1)): look at the log for what it died of."
            )

    def _marked(self) -> Record | None:
        try:
            topic, partition, offset = self._mark_path.read_bytes().decode().split()
            return Record(topic, int(partition), int(offset))
        except (FileNotFoundError, ValueError):
            # No marker, or an empty one: nothing was being applied alone.
            return None

    def _clear_mark(self) -> None:
        if self._mark is not None:
            os.pwrite(self._mark, b" " * (MARK_BYTES - 1) + b"\n", 0)
        else:
            self._mark_path.unlink(missing_ok=True)

    def _read(self) -> _Book:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Book)
        except FileNotFoundError:
            return _Book()
        except msgspec.DecodeError as error:
            raise StateError(
                f"{self._path} cannot be read ({error}): it lists the records that were given up. Repair it, or delete it; "
                "then records that kill the process have to be found again."
            ) from error

    def _write(self) -> None:
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self._book)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
