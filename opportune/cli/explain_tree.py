"""An explanation as a tree for people.

Owns: the text. Not here: what it says (opportune.audiences.explain).
"""

from __future__ import annotations

import click

from opportune.audiences.diagnostics import printable
from opportune.audiences.explained import Explained, Explanation


def tree_text(explanation: Explanation) -> str:
    """The text of an explanation, lines without a newline at the end."""
    who = ", ".join(map(printable, explanation.identifiers)) or explanation.profile_id
    if explanation.member is None:
        until = f"until {explanation.warming_until}" if explanation.warming_until else "for good (see `start: empty`)"
        verb = click.style("nobody can say yet", fg="yellow")
        lines = [f"{verb} whether {who} is in {explanation.audience} at {explanation.at}: it is warming {until}"]
    else:
        verb = click.style("is in", fg="green") if explanation.member else click.style("is not in", fg="red")
        lines = [f"{who} {verb} {explanation.audience} at {explanation.at}"]
    if explanation.description:
        lines.append(click.style(f"({printable(explanation.description)})", dim=True))
    lines += _lines(explanation.condition, "", "")
    if explanation.member is None:
        lines.append("When it has seen enough, everybody is evaluated." if explanation.warming_until else "")
    elif explanation.next_change is None:
        lines.append("As long as nothing happens, that stays so.")
    else:
        verb = "exits" if explanation.member else "enters"
        lines.append(f"If nothing happens, {who} {verb} at {explanation.next_change}.")
    return "\n".join(lines)


def _lines(part: Explained, first: str, rest: str) -> list[str]:
    mark = click.style("yes", fg="green") if part.holds else click.style("no ", fg="red")
    lines = [f"{first}{mark}  {printable(part.asks)}"]
    below = "│    " if part.parts else "     "
    if part.saw and not part.parts:
        lines.append(f"{rest}{below}{click.style('saw:', dim=True)} {printable(part.saw)}")
    if part.seen_since is not None:
        lines.append(
            f"{rest}{below}{click.style('seen since:', dim=True)} {part.seen_since}, which is not long enough yet"
        )
    if part.missing and not part.parts:
        lines.append(f"{rest}{below}{click.style('missing:', dim=True)} {printable(part.missing)}")
    if part.next_change is not None:
        verb = "holds until" if part.holds else "holds from"
        lines.append(f"{rest}{below}{click.style(f'{verb} {part.next_change}', dim=True)}")
    for number, each in enumerate(part.parts):
        last = number == len(part.parts) - 1
        lines += _lines(each, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    return lines
