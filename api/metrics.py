"""Counters of the service, as Prometheus reads them.

Owns: the names, and their text (Prometheus text format 0.0.4). Invariant: no label holds an identifier, a value of an
event or a key: labels are words of ours, and names of sources.
Not here: who counts.
"""

from __future__ import annotations

from collections import Counter

HELP = {
    "opportune_events_accepted_total": "events that Kafka has acknowledged, by source",
    "opportune_events_refused_total": "events that were refused, by reason",
    "opportune_requests_total": "requests, by part and status",
    "opportune_lookups_total": "identifiers looked up, by outcome",
}


class Counters:
    """Counts since the start; written by one thread."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, number: int = 1, **labels: str) -> None:
        """Counts something; ``name`` is one of ``HELP``."""
        self._counts[name, tuple(labels.items())] += number

    def text(self, gauges: dict[str, float]) -> str:
        """All of it, with some values of the moment by name."""
        lines: list[str] = []
        for name, told in HELP.items():
            lines += [f"# HELP {name} {told}", f"# TYPE {name} counter"]
            for (counted, labels), number in sorted(self._counts.items()):
                if counted == name:
                    written = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels)
                    lines.append(f"{name}{{{written}}} {number}")
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
