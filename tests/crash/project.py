"""The project of the crash tests: short windows, so that time passes during a test, and counts that hide nothing.

Owns: its files. Each event ``Counted`` moves a person from one of the ``counted_N`` audiences to the next, up to ``COUNTED``:
so an event that is lost or counted twice shows as a change that the reference evaluator does not make.
Not here: the events (tests.crash.traffic).
"""

from __future__ import annotations

from pathlib import Path

COUNTED = 16

_SETTINGS = """
name: {name}
clock:
  lateness: {lateness}
  # The events of the second topic have the instants of their sending, and the machine may be busy.
  skew: {skew}
  mark: 50 ms
dedupe: {{period: 5 seconds}}
topics: {{events: [{topics}], partitions: {partitions}}}
state: {{shards: 4}}
epoch: {epoch}
"""

_EVENTS = """
Home Viewed: {type: page, name: Home}
Counted: {}
Viewed: {properties: {category: string, price: number}}
Ordered: {properties: {total: number}}
"""

_AUDIENCES = """
name: often
when: {event: Viewed, times: ">= 3", within: 4 seconds}
---
name: burst
when: {event: Viewed, times: ">= 2", within: 1.5 seconds}
---
name: exactly_two
when: {event: Viewed, times: 2, within: 5 seconds}
---
name: quiet
when:
  all: [{event: Viewed, within: 6 seconds}]
  none: [{event: Viewed, within: 2 seconds}]
---
name: buyer
when: {event: Ordered, within: 7 seconds}
---
name: rich
when: {event: Ordered, where: {total: ">= 100"}, times: ">= 2", within: 20 seconds}
---
name: shoes
when:
  any:
    - {event: Viewed, where: {category: shoes}, within: 3 seconds}
    - {event: Viewed, where: {category: boots, price: ">= 50.5"}, within: 1 second}
---
name: pro_viewer
when:
  - {trait: plan, is: pro}
  - {event: Viewed, within: 3 seconds}
---
name: at_home
when: {event: Home Viewed, within: 2 seconds}
---
name: window_shopper
when:
  all: [{audience: often}]
  none: [{audience: buyer}]
---
name: idle
when:
  none: [{event: Viewed, within: 8 seconds}, {event: Counted, within: 4 seconds}]
"""


def write_project(
    directory: Path,
    name: str,
    *,
    topics: tuple[str, ...] = (),
    partitions: int = 4,
    lateness: str = "6 seconds",
    skew: str = "1 second",
    epoch: str = "250 ms",
    more: str = "",
) -> Path:
    """Writes the project's files.

    Args:
        directory: made where it is missing.
        name: the project's; it begins the names of its topics.
        topics: the events topics; none: ``NAME.events``.
        partitions: of topics that the job makes.
        lateness: ``clock.lateness``.
        skew: ``clock.skew``.
        epoch: ``epoch``.
        more: further lines of opportune.yml.

    Returns:
        The directory.
    """
    (directory / "audiences").mkdir(parents=True, exist_ok=True)
    names = ", ".join(topics or (f"{name}.events",))
    settings = _SETTINGS.format(
        name=name, topics=names, partitions=partitions, lateness=lateness, skew=skew, epoch=epoch
    )
    (directory / "opportune.yml").write_text(settings + more)
    (directory / "events.yml").write_text(_EVENTS)
    counted = [f"name: counted_{n:02d}\nwhen: {{event: Counted, times: {n}}}\n" for n in range(1, COUNTED + 1)]
    (directory / "audiences" / "all.yml").write_text("---\n".join([_AUDIENCES.lstrip(), *counted]))
    return directory
