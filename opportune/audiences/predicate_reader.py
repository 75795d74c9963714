"""Predicates: what stands under ``is:``, ``times:`` and each entry of ``where:``.

Owns: the three ways of writing one (a scalar, a list, a mapping of operators), the text form of a comparison, and the
check of operands against the operator and the declared type.
Invariant: an operand of a declared timestamp is an int, milliseconds since the epoch; of a count, a whole number.
Not here: whether comparisons contradict each other (opportune.audiences.bounds), what holds (opportune.audiences.predicate).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias, cast, get_args

import msgspec
import re2

from opportune.audiences.bounds import verdict
from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.fields import kind, text_of
from opportune.audiences.scalars import scalar_of
from opportune.audiences.schema import (
    AggregateValue,
    AttributeValue,
    Comparison,
    Operator,
    Predicate,
    Scalar,
    Span,
    TraitValue,
    ValueType,
)
from opportune.audiences.yaml_tree import MappingNode, Node, ScalarNode, SequenceNode
from opportune.event import instant_ms

OPERATORS: tuple[Operator, ...] = get_args(Operator)
ORDERING = frozenset(("gt", "gte", "lt", "lte"))
LISTS = frozenset(("in", "not_in"))
TEXT_ONLY = frozenset(("starts_with", "ends_with", "matches"))
SYMBOLS: dict[str, Operator] = {
    ">=": "gte", "<=": "lte", "==": "eq", "!=": "ne", ">": "gt", "<": "lt", "=": "eq",
}  # fmt: skip
SPOKEN: dict[str, str] = {
    **SYMBOLS, "equals": "eq", "is": "eq", "not": "ne", "not_equals": "ne", "min": "gte", "max": "lte", "one_of": "in",
    "none_of": "not_in", "regex": "matches", "like": "matches", "begins_with": "starts_with", "includes": "contains",
    "not in": "not_in", "notin": "not_in", "nin": "not_in", "ge": "gte", "le": "lte", "neq": "ne", "prefix": "starts_with",
    "suffix": "ends_with", "present": "exists",
}  # fmt: skip
_TURNED = re.compile(r"\s*(=>|=<|<>|≥|≤)")
_TURNED_MEAN = {"=>": ">=", "=<": "<=", "<>": "!=", "≥": ">=", "≤": "<="}
_COMPARISON = re.compile(r"\s*(>=|<=|==|!=|>|<|=)\s*(.*)", re.DOTALL)
_TYPE_WORDS = {"string": "a text", "number": "a number", "boolean": "true or false", "timestamp": "an instant"}


class Subject(msgspec.Struct, frozen=True):
    """What a predicate is about.

    Args:
        what: its name in messages, for example ``column `plan` ``.
        type: its type where it is known.
        declared: whether the project declares the type: then a clash is an error, else a warning.
        count: whether it is a number of events.
        lists: whether its value may be a list.
        person: whether it is a value of the person (under ``is``), so that an operand could be another one.
    """

    what: str
    type: ValueType | None = None
    declared: bool = True
    count: bool = False
    lists: bool = True
    person: bool = False


ValueReader: TypeAlias = Callable[[str, str, Span], "AggregateValue | TraitValue | AttributeValue | None"]
"""Reads an operand that is a value of the person: ``trait`` or ``attribute``, its name, and where it stands."""


def predicate_of(node: Node, subject: Subject, report: Report, read: ValueReader | None = None) -> Predicate | None:
    """The predicate that a node says of its subject; None where it says none, which is reported.

    Args:
        node: a scalar, a list or a mapping of operators.
        subject: what it is about.
        report: takes errors, and warnings for what can never hold or always holds.
        read: reads operands that are values of the person; None where there can be none.
    """
    parts = _parts(node, subject, report, read)
    if parts is None:
        return None
    typed = [_typed(op, operand, where, subject, report) for op, operand, where in parts]
    comparisons = tuple(comparison for comparison in typed if comparison is not None)
    if len(comparisons) < len(typed):
        return None
    constant = tuple(comparison for comparison in comparisons if comparison.value_of_person is None)
    outcome = verdict(constant, count=subject.count) if constant else None
    if outcome == "never":
        report.warning(node.span, f"this can never hold for {subject.what}", "no value satisfies all of it")
    elif outcome == "always":
        report.warning(
            node.span, f"this always holds for {subject.what}", "leave the condition out, or raise the number"
        )
    return Predicate(comparisons, instants=subject.type == "timestamp")


_Constant: TypeAlias = Scalar | tuple[Scalar, ...]
_Operand: TypeAlias = _Constant | AggregateValue | TraitValue | AttributeValue
_Part = tuple[Operator, _Operand, Span]


def _parts(node: Node, subject: Subject, report: Report, read: ValueReader | None) -> list[_Part] | None:
    if isinstance(node, ScalarNode):
        part = _scalar_form(node, subject, report)
        return None if part is None else [part]
    if isinstance(node, SequenceNode):
        operand = _scalars(node, report)
        return None if operand is None else [("in", operand, node.span)]
    if not node.entries:
        report.error(node.span, "an empty mapping says nothing", f"operators: {listed(OPERATORS)}")
        return None
    parts = [_entry(key, value, subject, report, read) for key, value in node.entries]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else None


def _scalar_form(node: ScalarNode, subject: Subject, report: Report) -> _Part | None:
    if node.style in (">", "|"):
        report.error(
            node.span, f"`{node.style}` begins a block of text in YAML", 'put the comparison in quotes: ">= 3"'
        )
        return None
    value = _scalar(node, report, f"{subject.what} is compared with nothing")
    if not isinstance(value, str):
        return None if value is None else ("eq", value, node.span)
    turned = _TURNED.match(value)
    if turned is not None:
        meant = _TURNED_MEAN[turned[1]]
        report.error(
            node.span, f"{quoted(turned[1])} is no comparison", f"did you mean {quoted(meant)}? for the text itself: eq"
        )
        return None
    found = _COMPARISON.fullmatch(value)
    if found is None:
        return "eq", value, node.span
    symbol, text = found[1], found[2].strip()
    if not text:
        report.error(
            node.span, f"{quoted(value)} has nothing to compare with", f'for the text itself: {{eq: "{symbol}"}}'
        )
        return None
    try:
        operand = scalar_of(text)
    except Unreadable as error:
        report.unreadable(node.span, error)
        return None
    if isinstance(operand, str) and re.search("[<>=]", operand):
        report.warning(node.span, f"{quoted(operand)} is compared as one text", "for two bounds write {gte: 3, lt: 5}")
    return SYMBOLS[symbol], text if operand is None else operand, node.span


def _entry(key: ScalarNode, value: Node, subject: Subject, report: Report, read: ValueReader | None) -> _Part | None:
    if key.text not in OPERATORS:
        near = report.nearest(key.text, (*OPERATORS, *SPOKEN))
        meant = SPOKEN.get(key.text) or SPOKEN.get(near or "", near)
        hint = f"did you mean {quoted(meant)}?" if meant else f"operators: {listed(OPERATORS)}"
        report.error(key.span, f"there is no operator {quoted(key.text)}", hint)
        return None
    op = key.text
    if op in LISTS:
        if not isinstance(value, SequenceNode):
            report.error(value.span, f"{quoted(op)} takes a list, not {kind(value)}", f"write {op}: [ ... ]")
            return None
        operands = _scalars(value, report)
        return None if operands is None else (op, operands, value.span)
    if isinstance(value, MappingNode):
        other = _value_of_the_person(value, op, subject, report, read)
        return None if other is None else (op, other, value.span)
    if isinstance(value, SequenceNode):
        report.error(
            value.span, f"{quoted(op)} takes a single value, not a list", "for one of several write in: [ ... ]"
        )
        return None
    operand = _scalar(value, report, f"{quoted(op)} has nothing to compare with")
    return None if operand is None else (op, operand, value.span)


def _value_of_the_person(
    node: MappingNode, op: Operator, subject: Subject, report: Report, read: ValueReader | None
) -> AggregateValue | TraitValue | AttributeValue | None:
    key = node.entries[0][0].text if len(node.entries) == 1 else ""
    if key not in ("attribute", "trait") or op not in ORDERING | {"eq", "ne"}:
        report.error(node.span, f"{quoted(op)} takes a single value, not a mapping")
    elif read is None or not subject.person:
        report.error(
            node.span,
            "only `is` can compare with another value of the person",
            "in `where` and `times` all past events would have to be matched again",
        )
    else:
        name = text_of(node.entries[0][1], quoted(key), report)
        if name is not None:
            return read(key, name, node.entries[0][1].span)
    return None


def _scalars(node: SequenceNode, report: Report) -> tuple[Scalar, ...] | None:
    if not node.items:
        report.error(node.span, "an empty list matches nothing", "name at least one value")
        return None
    values = []
    for item in node.items:
        if isinstance(item, ScalarNode):
            values.append(_scalar(item, report, "an entry of the list is empty"))
        else:
            report.error(item.span, f"a list of values holds single values, not {kind(item)}")
            values.append(None)
    found = tuple(value for value in values if value is not None)
    return found if len(found) == len(values) else None


def _scalar(node: ScalarNode, report: Report, nothing: str) -> Scalar | None:
    try:
        value = node.value()
    except Unreadable as error:
        report.unreadable(node.span, error)
        return None
    if value is None:
        report.error(node.span, nothing, 'for "there is no value" write {exists: false}; the text null needs quotes')
    return value


def _typed(op: Operator, operand: _Operand, span: Span, subject: Subject, report: Report) -> Comparison | None:
    """The comparison with its operand in the type of the subject; None after an error."""
    if isinstance(operand, AggregateValue | TraitValue | AttributeValue):
        return Comparison(op, operand)
    if op == "exists":
        return _exists(operand, span, subject, report)
    if subject.count and (op in TEXT_ONLY or op == "contains"):
        report.error(span, f"{quoted(op)} does not go with a number of events", 'write for example ">= 3"')
        return None
    if op in TEXT_ONLY and not isinstance(operand, str):
        report.error(span, f"{quoted(op)} takes a text", f'put it in quotes: "{operand}"')
        return None
    if op == "matches" and not _is_expression(str(operand), span, report):
        return None
    if subject.type is not None:
        clash = _clash(op, operand, subject)
        if clash and subject.declared:
            report.error(span, *clash)
            return None
        if clash:
            report.warning(span, *clash)
    if op in ORDERING and isinstance(operand, bool) and subject.type is None:
        report.warning(span, "true and false have no order, so this can never hold", "compare them with `eq`")
    return _converted(op, operand, span, subject, report)


def _exists(operand: _Constant, span: Span, subject: Subject, report: Report) -> Comparison | None:
    if not isinstance(operand, bool):
        report.error(span, "`exists` is `true` or `false`")
    elif subject.count:
        report.error(span, "a number of events always exists", 'for "never" write times: 0')
    else:
        return Comparison("exists", operand)
    return None


def _is_expression(text: str, span: Span, report: Report) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        report.error(
            span, f"{quoted(text)} is not an RE2 expression: {reason}", "RE2 has no look-around and no references"
        )
        return False
    return True


def _clash(op: Operator, operand: _Constant, subject: Subject) -> tuple[str, str] | None:
    """Why operator and operand do not go with the type of the subject, and what to do; None where they do."""
    name = _TYPE_WORDS[cast(str, subject.type)]
    if op in TEXT_ONLY and subject.type != "string":
        return f"{quoted(op)} does not go with {subject.what}, which is {name}", "it is for texts"
    if op == "contains" and (subject.type == "timestamp" or (subject.type != "string" and not subject.lists)):
        return f"`contains` does not go with {subject.what}, which is {name}", "it is for texts and lists"
    if op in ORDERING and subject.type == "boolean":
        return f"{subject.what} is true or false, which have no order", "write `true` or `false`"
    for value in operand if isinstance(operand, tuple) else (operand,):
        if not _of_type(value, cast(ValueType, subject.type)):
            return f"{subject.what} is {name}, not {_scalar_words(value)}", _type_hint(value, subject)
    return None


def _of_type(value: Scalar, type_: ValueType) -> bool:
    if isinstance(value, bool):
        return type_ == "boolean"
    if isinstance(value, str):
        return type_ in ("string", "timestamp")
    return type_ == "number"


def _scalar_words(value: Scalar) -> str:
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return f"{'the value' if isinstance(value, bool) else 'the number'} `{_written(value)}`"


def _written(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _type_hint(value: Scalar, subject: Subject) -> str:
    if subject.count:
        return 'write for example 3, ">= 3" or {gte: 3, lt: 10}'
    if subject.type == "string" and not isinstance(value, str):
        return f'put it in quotes: {{eq: "{_written(value)}"}}'
    if subject.type == "number" and isinstance(value, str):
        return "remove the quotes" if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", value) else "compare it with a number"
    return f"compare it with {_TYPE_WORDS[cast(str, subject.type)]}"


def _converted(op: Operator, operand: _Constant, span: Span, subject: Subject, report: Report) -> Comparison | None:
    if subject.type == "timestamp":
        try:
            if isinstance(operand, tuple):
                return Comparison(op, tuple(_instant(value) for value in operand))
            return Comparison(op, _instant(operand))
        except Unreadable as error:
            report.unreadable(span, error)
            return None
    if subject.count:
        values = operand if isinstance(operand, tuple) else (operand,)
        if any(isinstance(value, Decimal) for value in values):
            report.error(span, "events are counted in whole numbers", 'write for example ">= 3"')
            return None
    return Comparison(op, operand)


def _instant(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    try:
        return instant_ms(value.strip())
    except ValueError:
        hint = "write a date or a date and time, for example `2026-03-01` or `2026-03-01T12:30:00Z`"
        raise Unreadable(f"{quoted(value)} is not an instant", hint) from None
