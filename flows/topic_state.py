"""Which topics a state was made from and has told its changes to, and whether the broker still has those.

Owns: the value ``topics`` of the meta family of the first shard, JSON of names by topic id in hexadecimal digits: the topics that
shards read, and the memberships topic. A topic without a name was given up, by ``--accept-loss``.
Not here: the judgement over positions (flows.topic_positions), changes while the job runs (flows.topic_watch).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from flows.actor import Actor
from flows.topic_positions import check_memberships, check_positions
from flows.topics import TopicSet
from state.store import Store

log = logging.getLogger(__name__)

META_TOPICS = b"topics"


def check_topics(actors: Sequence[Actor], topics: TopicSet, *, accept_loss: bool) -> None:
    """Refuses topics that are not those of the state, or have lost what was not read or what was told.

    Args:
        actors: of all shards, the first one first.
        topics: what the broker has.
        accept_loss: go on all the same: positions are moved, and the log tells of each loss.

    Raises:
        StateError: there is a loss, and it was not accepted.
    """
    applied: dict[tuple[bytes, int], int] = {}
    highest: dict[tuple[bytes, int], int] = {}
    for actor in actors:
        for place, (offset, _) in actor.positions:
            applied[place] = min(applied.get(place, offset), offset)
            highest[place] = max(highest.get(place, offset), offset)
    store = actors[0].store
    names = _kept(store)
    losses = check_positions(applied, topics, accept_loss=accept_loss, names=names, highest=highest)
    for loss in losses:
        log.warning("accepted: %s", loss.told())
        if loss.what == "recreated":
            # A topic without a name is not judged any more (flows.topic_positions): it was accepted for good.
            names[loss.topic_id] = ""
        for actor in actors:
            known = actor.positions.get(loss.topic_id, loss.partition)
            if known is not None:
                actor.positions.advance(loss.topic_id, loss.partition, loss.moved(known[0]), known[1])
    for former in check_memberships(topics.memberships, names, accept_loss=accept_loss):
        log.warning("accepted: %s lacks what was told before", topics.memberships.name)
        names[former] = ""
    _keep(store, names | {topic.topic_id: topic.name for topic in (*topics.read(), topics.memberships)})


def _kept(store: Store) -> dict[bytes, str]:
    kept = msgspec.json.decode(store.get("meta", META_TOPICS) or b"{}", type=dict[str, str])
    return {bytes.fromhex(key): name for key, name in kept.items()}


def _keep(store: Store, names: dict[bytes, str]) -> None:
    write = store.batch()
    value = msgspec.json.encode({key.hex(): name for key, name in names.items()})
    write.put(META_TOPICS, value, store.family("meta"))
    store.write(write)
