"""identity.yml: namespaces of identifiers in order of priority, and the values that stand for nobody.

Owns: reading and checking the file; what it leaves out has the defaults of opportune.identifiers.
Not here: what the settings mean for an event (opportune.people) and for profiles (docs/identity.md).
"""

from __future__ import annotations

import re
from typing import cast, get_args

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.events_file import CALL_TYPES
from opportune.audiences.fields import Fields, choice, fields_of, mapping_of, text_of
from opportune.audiences.paths import ROOTS, keys_of
from opportune.audiences.yaml_tree import Node, ScalarNode, SequenceNode
from opportune.identifiers import ENVELOPE, IdentitySettings, Namespace, Normalise, is_pattern

KEYS = ("namespaces", "blocked", "alias_previous")
NAMESPACE_KEYS = ("path", "limit", "of", "normalise", "shared", "region")
NORMALISE: tuple[Normalise, ...] = get_args(Normalise)
LIMIT_MAX = 1_000
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def read_identity(documents: tuple[Node, ...] | None, report: Report) -> IdentitySettings:
    """The settings of identity.yml.

    Args:
        documents: of the file; None where it could not be read, empty where there is none.
        report: takes the errors.
    """
    settings = IdentitySettings()
    for document in documents or ():
        fields = fields_of(document, "identity.yml", KEYS, report)
        if fields is None:
            continue
        namespaces = _namespaces(fields, report) or settings.namespaces
        names = [namespace.name for namespace in namespaces]
        previous = _alias_previous(fields, names, report)
        blocked = _blocked(fields, report)
        settings = IdentitySettings(
            namespaces,
            settings.blocked if blocked is None else blocked,
            previous if previous is not None else names[-1],
        )
    return settings


def _namespaces(fields: Fields, report: Report) -> tuple[Namespace, ...]:
    node = fields.get("namespaces")
    mapping = mapping_of(node, "`namespaces`", report) if node is not None else None
    if mapping is None:
        return ()
    if not mapping.entries:
        report.error(mapping.span, "an empty `namespaces` knows nobody", "leave it out for the usual ones")
    found: dict[str, Namespace] = {}
    for name, entry in mapping.entries:
        if NAME.fullmatch(name.text) is None:
            report.error(
                name.span, f"{quoted(name.text)} cannot be a namespace", "use at most 64 letters, digits and `_`"
            )
        elif name.text in found:
            report.error(name.span, f"the namespace {quoted(name.text)} is there twice")
        else:
            found[name.text] = _namespace(name.text, entry, report)
    return tuple(found.values())


def _namespace(name: str, node: Node, report: Report) -> Namespace:
    fields = fields_of(node, f"the namespace {quoted(name)}", NAMESPACE_KEYS, report, required=("path",))
    if fields is None:
        return Namespace(name, (), 1)
    limit = _limit(fields, report)
    of = tuple(
        type_
        for one in _list(fields, "of")
        if (type_ := choice(*CALL_TYPES)(one, f"a call type of {quoted(name)}", report)) is not None
    )
    normalise = fields.get("normalise")
    chosen = None if normalise is None else choice(*NORMALISE)(normalise, "`normalise`", report)
    region_node = fields.get("region")
    region = text_of(region_node, "`region`", report) if region_node is not None else None
    if region is not None and re.fullmatch("[A-Z]{2}", region) is None:
        report.error(
            fields.key_span("region"), f"{quoted(region)} is not a country", "two capital letters, such as `DE`"
        )
    return Namespace(
        name, _paths(fields, report), limit, of, cast(Normalise, chosen or "text"), _shared(fields, report), region
    )


def _paths(fields: Fields, report: Report) -> tuple[tuple[str, ...], ...]:
    found = []
    for node in _list(fields, "path"):
        text = text_of(node, "a path", report)
        if text is None:
            continue
        try:
            keys = keys_of(text)
        except Unreadable as error:
            report.unreadable(node.span, error)
            continue
        if len(keys) == 1 and keys[0] not in ENVELOPE:
            hint = report.did_you_mean(
                keys[0], ENVELOPE, "write for example `traits.email` or `properties.loyalty_card`"
            )
            report.error(node.span, f"a message has no identifier {quoted(text)} of its own", hint)
        elif len(keys) > 1 and (keys[0] not in ROOTS or keys == ("context", "traits")):
            report.error(node.span, f"{quoted(text)} is no path to a value", f"it starts with one of {listed(ROOTS)}")
        else:
            found.append(keys)
    return tuple(found)


def _limit(fields: Fields, report: Report) -> int:
    node = fields.get("limit")
    if node is None:
        return 1
    text = node.text if isinstance(node, ScalarNode) and not node.style else ""
    if re.fullmatch("[1-9][0-9]{0,3}", text) is None or int(text) > LIMIT_MAX:
        report.error(node.span, f"`limit` is a whole number from 1 to {LIMIT_MAX}")
        return 1
    return int(text)


def _shared(fields: Fields, report: Report) -> bool:
    node = fields.get("shared")
    text = node.text if isinstance(node, ScalarNode) and not node.style else ""
    if node is not None and text not in ("true", "false"):
        report.error(node.span, "`shared` is true or false")
    return text == "true"


def _blocked(fields: Fields, report: Report) -> tuple[str, ...] | None:
    if "blocked" not in fields:
        return None
    values = []
    for node in _list(fields, "blocked"):
        if not isinstance(node, ScalarNode):
            report.error(node.span, "a blocked value is a text or a number")
            continue
        value = node.text
        if is_pattern(value):
            try:
                re.compile(value[1:-1])
            except re.error as error:
                report.error(node.span, f"{quoted(value)} is no regular expression: {error}")
                continue
        values.append(value if is_pattern(value) else value.strip().lower())
    return tuple(values)


def _alias_previous(fields: Fields, names: list[str], report: Report) -> str | None:
    node = fields.get("alias_previous")
    if node is None:
        return "anonymous_id" if "anonymous_id" in names else None
    return choice(*names)(node, "`alias_previous`", report)


def _list(fields: Fields, key: str) -> tuple[Node, ...]:
    """The items of a list, or the one value that is written without one."""
    node = fields.get(key)
    if node is None:
        return ()
    return tuple(node.items) if isinstance(node, SequenceNode) else (node,)
