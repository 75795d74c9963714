from __future__ import annotations

import msgspec
import pytest

from flows.demo.topics import delete
from flows.topics import wanted, with_prefix
from opportune.settings import Settings, Topics

TOPICS = Topics(
    events=("shop.events", "shop.more"),
    memberships="shop.memberships",
    dead_letters="shop.dead-letters",
    mailbox="shop.mailbox",
    control="shop.control",
)
SETTINGS = Settings(topics=TOPICS)


def test_every_topic_of_a_demo_has_its_prefix() -> None:
    moved = msgspec.structs.replace(SETTINGS, topics=with_prefix(TOPICS, "demo-1-"))
    names = {each.name: each.partitions for each in wanted(moved)}
    assert names == {f"demo-1-{each.name}": each.partitions for each in wanted(SETTINGS)}


def test_topics_of_others_are_never_deleted() -> None:
    with pytest.raises(AssertionError):
        delete(SETTINGS, "demo-1-")
    with pytest.raises(AssertionError):
        delete(SETTINGS, "")
