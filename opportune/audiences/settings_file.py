"""opportune.yml: the project's name and settings.

Owns: the keys, their bounds, and the names of topics that are not written: ``<project>.<kind>``.
Not here: defaults and what settings mean (opportune.settings), environment variables (the command line).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from opportune.audiences.diagnostics import Report, quoted
from opportune.audiences.durations import DAY_MS, DURATION_MS_MAX, HOUR_MS, MINUTE_MS, SECOND_MS, YEAR_MS
from opportune.audiences.fields import (
    Fields,
    Reader,
    boolean_of,
    choice,
    duration,
    fields_of,
    integer,
    kind,
    mapping_of,
    scalar_node,
    text_of,
)
from opportune.audiences.yaml_tree import MappingNode, Node, ScalarNode, SequenceNode
from opportune.settings import Clock, Dedupe, Erasure, Kafka, Poison, Settings, State, Topics

S = TypeVar("S")
Keys = Mapping[str, tuple[str, Reader[Any]]]
"""For each key: the field that it fills, and the reader of its value."""

LATER_KEYS = ("api", "collector", "console", "warehouse", "identity", "alias_previous", "metrics", "sinks")
TOPIC_CHARS_MAX = 249
NAME_CHARS_MAX = 200
SHARDS_MAX = 1_024
KINDS = ("events", "memberships", "dead-letters", "mailbox", "control")
_TOPIC = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


def read_settings(documents: tuple[Node, ...] | None, report: Report) -> tuple[str, Settings]:
    """The project's name and settings; the defaults stand in for what has an error.

    Args:
        documents: of opportune.yml; None where it could not be read.
        report: takes the errors.
    """
    name, settings = "", Settings()
    if documents:
        for further in documents[1:]:
            report.error(further.span, "opportune.yml is one document", "remove the line `---`")
        name, settings = _project(documents[0], report)
    return name, msgspec.structs.replace(settings, topics=_named(settings.topics, name))


def _project(node: Node, report: Report) -> tuple[str, Settings]:
    sections: dict[str, Callable[[Node, str, Report], object | None]] = {
        "clock": lambda node, what, report: _section(node, what, CLOCK, Clock, report),
        "dedupe": lambda node, what, report: _section(node, what, DEDUPE, Dedupe, report),
        "erasure": lambda node, what, report: _section(node, what, ERASURE, Erasure, report),
        "kafka": lambda node, what, report: _section(node, what, KAFKA, Kafka, report),
        "topics": _topics,
        "state": lambda node, what, report: _section(node, what, STATE, State, report),
        "poison": _poison,
        "timezone": _timezone,
        "epoch": duration(10, MINUTE_MS),
        "event_bytes_max": integer(1_024, 1 << 30),
        "watchdog": duration(SECOND_MS, HOUR_MS),
    }
    renamed = {"epoch": "epoch_ms", "watchdog": "watchdog_ms"}
    fields = fields_of(
        node, "opportune.yml", ("name", "session", *sections), report, later=LATER_KEYS, required=("name",)
    )
    if fields is None:
        return "", Settings()
    values = _values(fields, {key: (renamed.get(key, key), read) for key, read in sections.items()}, "", report)
    if (session := fields.get("session")) is not None:
        inner = fields_of(session, "`session`", ("gap",), report)
        keys = {"gap": ("session_gap_ms", duration(1, YEAR_MS))}
        values |= _values(inner, keys, "session.", report) if inner is not None else {}
    named = fields.get("name")
    name = _name(named, "`name`", report) if named is not None else None
    return name or "", Settings(**values)


def _section(node: Node, what: str, keys: Keys, make: Callable[..., S], report: Report) -> S | None:
    fields = fields_of(node, what, tuple(keys), report)
    return make(**_values(fields, keys, f"{what.strip('`')}.", report)) if fields is not None else None


def _values(fields: Fields, keys: Keys, prefix: str, report: Report) -> dict[str, Any]:
    values = {}
    for key, (field, read) in keys.items():
        node = fields.get(key)
        value = read(node, f"`{prefix}{key}`", report) if node is not None else None
        if value is not None:
            values[field] = value
    return values


def _name(node: Node, what: str, report: Report) -> str | None:
    name = text_of(node, what, report)
    if name is None or (_PROJECT.fullmatch(name) and len(name) <= NAME_CHARS_MAX):
        return name
    hint = f"it begins the names of topics: letters, digits, `.`, `_`, `-`, at most {NAME_CHARS_MAX}"
    report.error(node.span, f"{quoted(name)} cannot be a project's name", hint)
    return None


def _timezone(node: Node, what: str, report: Report) -> str | None:
    name = text_of(node, what, report)
    if name is None:
        return None
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        report.error(node.span, f"there is no time zone {quoted(name)}", "write an IANA name, for example Europe/Paris")
        return None


def _servers(node: Node, what: str, report: Report) -> str | None:
    if not isinstance(node, SequenceNode):
        return text_of(node, what, report)
    servers = [text_of(item, f"an entry of {what}", report) for item in node.items]
    if not servers:
        report.error(node.span, f"{what} is empty", "name a broker, for example localhost:9092")
    return ",".join(server for server in servers if server is not None) or None


def _properties(node: Node, what: str, report: Report) -> dict[str, str] | None:
    mapping = mapping_of(node, what, report)
    if mapping is None:
        return None
    found = {}
    for key, value in mapping.entries:
        scalar = scalar_node(value, f"{what}: {quoted(key.text)}", report)
        if key.text in ("bootstrap.servers", "metadata.broker.list"):
            report.error(key.span, f"{quoted(key.text)} has a key of its own", "write kafka.bootstrap_servers")
        elif scalar is not None:
            found[key.text] = scalar.text
    return found


def _topic(node: Node, what: str, report: Report) -> str | None:
    name = text_of(node, what, report)
    if name is None or (_TOPIC.fullmatch(name) and len(name) <= TOPIC_CHARS_MAX and name not in (".", "..")):
        return name
    hint = f"letters, digits, `.`, `_`, `-`, at most {TOPIC_CHARS_MAX}"
    report.error(node.span, f"{quoted(name)} cannot be a topic's name", hint)
    return None


def _event_topics(node: Node, what: str, report: Report) -> tuple[str, ...] | None:
    if not isinstance(node, SequenceNode):
        name = _topic(node, what, report)
        return (name,) if name is not None else None
    names: list[str] = []
    for item in node.items:
        name = _topic(item, f"an entry of {what}", report)
        if name is not None and name in names:
            report.error(item.span, f"the topic {quoted(name)} is there twice")
        elif name is not None:
            names.append(name)
    if not node.items:
        report.error(node.span, f"{what} is empty", "name a topic, or leave the key out")
    return tuple(names) or None


def _topics(node: Node, what: str, report: Report) -> Topics | None:
    topics = _section(node, what, TOPICS, Topics, report)
    if topics is None or not isinstance(node, MappingNode):
        return topics
    used: dict[str, str] = {}
    for key, value in node.entries:
        items = value.items if isinstance(value, SequenceNode) else (value,)
        for item in items if key.text in ("events", "memberships", "dead_letters", "mailbox", "control") else ():
            name = item.text if isinstance(item, ScalarNode) else ""
            if used.setdefault(name, key.text) != key.text:
                report.error(
                    item.span, f"the topic {quoted(name)} is also `topics.{used[name]}`", "each kind has its own"
                )
    return topics


def _named(topics: Topics, project: str) -> Topics:
    events, memberships, dead_letters, mailbox, control = (f"{project}.{kind}" for kind in KINDS)
    return msgspec.structs.replace(
        topics,
        events=topics.events or (events,),
        memberships=topics.memberships or memberships,
        dead_letters=topics.dead_letters or dead_letters,
        mailbox=topics.mailbox or mailbox,
        control=topics.control or control,
    )


def _poison(node: Node, what: str, report: Report) -> Poison | None:
    if isinstance(node, MappingNode):
        return _section(node, what, POISON, Poison, report)
    if isinstance(node, SequenceNode):
        report.error(node.span, f"{what} is `quarantine`, `stop` or a mapping, not {kind(node)}")
        return None
    action = choice("quarantine", "stop")(node, what, report)
    return Poison(action="stop" if action == "stop" else "quarantine") if action is not None else None


CLOCK: Keys = {
    "lateness": ("lateness_ms", duration(1, YEAR_MS)),
    "idle": ("idle_ms", duration(100, HOUR_MS)),
    "mark": ("mark_ms", duration(1, 10 * SECOND_MS)),
    "skew": ("skew_ms", duration(1, MINUTE_MS)),
}
DEDUPE: Keys = {"period": ("period_ms", duration(1, YEAR_MS))}
ERASURE: Keys = {"remember": ("remember_ms", duration(DAY_MS, DURATION_MS_MAX))}
KAFKA: Keys = {"bootstrap_servers": ("bootstrap_servers", _servers), "properties": ("properties", _properties)}
TOPICS: Keys = {
    "events": ("events", _event_topics),
    "memberships": ("memberships", _topic),
    "dead_letters": ("dead_letters", _topic),
    "mailbox": ("mailbox", _topic),
    "control": ("control", _topic),
    "partitions": ("partitions", integer(1, 10_000)),
    "replication": ("replication", integer(1, 100, also=(-1,))),
    "retention": ("retention_ms", duration(MINUTE_MS, DURATION_MS_MAX, words={"ever": -1})),
    "mailbox_retention": ("mailbox_retention_ms", duration(MINUTE_MS, DURATION_MS_MAX, words={"ever": -1})),
    "create": ("create", boolean_of),
    "watch": ("watch_ms", duration(100, HOUR_MS)),
}
STATE: Keys = {
    "directory": ("directory", text_of),
    "shards": ("shards", integer(1, SHARDS_MAX)),
    "durability": ("durability", choice("epoch", "batch")),
}
POISON: Keys = {
    "action": ("action", choice("quarantine", "stop")),
    "deaths": ("deaths", integer(1, 100)),
    "budget_an_hour": ("budget_an_hour", integer(0, 10_000)),
}
