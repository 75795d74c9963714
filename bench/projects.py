"""Project directories for measurements, as an author would write them.

Owns: opportune.yml, warehouse.yml with its table of people, and the audience files, in a temporary directory. Everything
that they do not say is the default of ``opportune run``.
Not here: which audiences (bench.audiences), running the job (bench.subjects).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.audiences import Definition
from bench.events import person_name

PLANS: Final = ("free", "pro", "team", "enterprise")
PLAN_SHARES: Final = (0.60, 0.30, 0.09, 0.01)
COUNTRIES: Final = ("US", "DE", "FR", "GB", "ES", "IT", "NL", "LU")
COUNTRY_SHARES: Final = (0.40, 0.15, 0.13, 0.12, 0.09, 0.07, 0.035, 0.005)


@dataclass(frozen=True)
class People:
    """The table of people: user_id, plan (60 % free) and country, as Parquet and, for the calibrator, as CSV."""

    parquet: Path
    plans_csv: Path


def write_people(directory: Path, count: int) -> People:
    """Writes the table of the first ``count`` people into a directory."""
    random = np.random.default_rng(7)
    names = [person_name(i) for i in range(count)]
    plans = random.choice(PLANS, count, p=PLAN_SHARES).tolist()
    countries = random.choice(COUNTRIES, count, p=COUNTRY_SHARES).tolist()
    table = pa.table({"user_id": names, "plan": plans, "country": countries})
    people = People(directory / "people.parquet", directory / "plans.csv")
    parquet.write_table(table, people.parquet)
    with people.plans_csv.open("w", newline="") as lines:
        csv.writer(lines).writerows(zip(names, plans, strict=True))
    return people


def write_project(
    directory: Path,
    *,
    name: str,
    bootstrap: str,
    events: str,
    audiences: Sequence[Definition],
    people: People | None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Writes a project and returns its directory.

    Args:
        directory: is made.
        name: of the project; its topics begin with it.
        bootstrap: address of the broker.
        events: the topic that events are in.
        audiences: all of them.
        people: the table ``people``; None: no warehouse.
        settings: further keys of opportune.yml.
    """
    (directory / "audiences").mkdir(parents=True)
    job = {
        "name": name,
        "kafka": {"bootstrap_servers": bootstrap},
        "topics": {"events": events},
        "state": {"directory": "state"},
        **(settings or {}),
    }
    _write(directory / "opportune.yml", job)
    _write(directory / "audiences" / "all.yml", [definition.document() for definition in audiences])
    if people is not None:
        (directory / "people.parquet").hardlink_to(people.parquet)
        columns = {"plan": "string", "country": "string"}
        _write(
            directory / "warehouse.yml",
            {"tables": {"people": {"source": "people.parquet", "key": "user_id", "columns": columns}}},
        )
    return directory


def _write(file: Path, content: Any) -> None:
    # JSON is YAML 1.2, and no YAML writer can quote a value in a way that its reader takes for another.
    file.write_text(json.dumps(content, indent=1))
