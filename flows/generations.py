"""Under which generation a state runs, so that of several states of one project one alone goes on.

Owns: the choice, at the start. A directory's lock keeps two processes from one state; nothing but the topics knows of a second
state: a job that was not stopped before its directory was moved away, a start with another ``--state``, a copy of before.
Their mail would have the same sequences, and each shard would take that of whoever wrote first for its own.
So a state that is new begins above every generation of the control topic: the former process stops when it reads of it
(``flows.control.superseded``), and its mail counts for nobody any more (state.ancestry).
Invariant: a generation is kept in the write that makes a shard; one that is kept stays, unless taking over is wanted.
Not here: what a shard does about generations (flows.mail, flows.control).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from state.ancestry import continue_under
from state.keys import META_GENERATION, decode_u64
from state.shard_identity import Expected, open_shard
from state.store import Store

log = logging.getLogger(__name__)


def open_shards(stores: Sequence[Store], fit: Sequence[Expected], last: Callable[[], int], *, other: bool) -> None:
    """Makes empty stores the shards of a process, or checks that they are.

    Args:
        stores: of all shards, just opened.
        fit: what each has to be.
        last: the highest generation that the control topic tells of, 0 where it tells of none; asked only where it matters.
        other: go on although another state has run since: the own past counts, the mail of the other one does not.

    Raises:
        StateError: a state does not fit, or the shards are not of one moment: the message says what to do.
        TransientError: the control topic cannot be read now.
    """
    own = generation_of(stores)
    generation = own or last() + 1
    for store, expected in zip(stores, fit, strict=True):
        # One that is new among others is their fellow: a first start that has died half-way.
        open_shard(store, expected, generation)
    if own and other and own < (newest := last()):
        continue_under(stores, newest + 1)
        log.warning("this state goes on under generation %d: another one has run under %d since", newest + 1, newest)


def generation_of(stores: Sequence[Store]) -> int:
    """The generation that shards are kept under; 0 where all are new."""
    kept = [value for store in stores if (value := store.get("meta", META_GENERATION)) is not None]
    return max((decode_u64(value, "the generation") for value in kept), default=0)
