"""audiences/*.yml: named conditions.

Owns: a file's documents (one audience, or a list of them), names and what stands beside ``when``.
Invariant: of two audiences with one name the second is an error.
Not here: conditions (opportune.audiences.condition_reader), references between audiences (opportune.audiences.check).
"""

from __future__ import annotations

import re

from opportune.audiences.condition_reader import BESIDE, ConditionReader
from opportune.audiences.diagnostics import Report, quoted
from opportune.audiences.fields import Fields, choice, fields_of, kind, scalar_node, text_of
from opportune.audiences.schema import Audience, AudienceCondition, Span
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode

KEYS = ("name", "description", "when", "start")
NAME_CHARS_MAX = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


class Audiences:
    """The audiences of all files.

    Attributes:
        by_name: those that are right.
        spans: where each name is given, also of those that are not right, so that references to them are no errors.
        references: what each of those names refers to.
        complete: False where a file or a name could not be read, so that an unknown name says nothing.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Audience] = {}
        self.spans: dict[str, Span] = {}
        self.references: dict[str, list[AudienceCondition]] = {}
        self.complete = True


def read_audiences(
    documents: tuple[Node, ...] | None, reader: ConditionReader, found: Audiences, report: Report
) -> None:
    """Reads the audiences of one file into ``found``.

    Args:
        documents: of the file; None where it could not be read.
        reader: reads their conditions.
        found: takes the audiences.
        report: takes errors and warnings.
    """
    if documents is None:
        found.complete = False
        return
    for document in documents:
        nodes = document.items if isinstance(document, SequenceNode) else (document,)
        if not nodes:
            report.error(document.span, "an empty list of audiences", "name at least one, or remove the file")
        for node in nodes:
            _audience(node, reader, found, report)


def _audience(node: Node, reader: ConditionReader, found: Audiences, report: Report) -> None:
    if not isinstance(node, MappingNode):
        report.error(node.span, f"an audience is a mapping with `name` and `when`, not {kind(node)}")
        found.complete = False
        return
    fields = fields_of(node, "an audience", KEYS, report, required=("name", "when"), meant=BESIDE)
    assert fields is not None, "a mapping has fields"
    name = _name(fields, found, report)
    when = fields.get("when")
    condition = reader.read(when) if when is not None else None
    references = reader.take_references()
    description = _description(fields, report)
    start = fields.get("start")
    starts_empty = start is not None and choice("empty")(start, "`start`", report) == "empty"
    if name is None:
        return
    found.references[name] = references
    if condition is not None:
        found.by_name[name] = Audience(name, condition, description, starts_empty, found.spans[name])


def _name(fields: Fields, found: Audiences, report: Report) -> str | None:
    node = fields.get("name")
    name = text_of(node, "`name`", report) if node is not None else None
    if name is None or node is None:
        found.complete = False
        return None
    if name in found.spans:
        first = found.spans[name]
        report.error(
            node.span, f"the audience {quoted(name)} is there twice", f"the first is {first.file}:{first.line}"
        )
        return None
    found.spans[name] = node.span
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower(), flags=re.ASCII).strip("_")[:NAME_CHARS_MAX]
        hint = f"letters, digits, `_`, `-` and `.`, at most {NAME_CHARS_MAX}"
        report.error(node.span, f"{quoted(name)} cannot be a name", f"{hint}, for example {plain}" if plain else hint)
    return name


def _description(fields: Fields, report: Report) -> str:
    node = fields.get("description")
    scalar = scalar_node(node, "`description`", report) if node is not None else None
    return scalar.text.strip() if scalar is not None else ""
