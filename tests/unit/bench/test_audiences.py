from pathlib import Path

import pytest

from bench.audiences import ACTIONS, Definition, actions, hundred, memory, nothing, one, storm, touched
from bench.events import SHOP, Traffic
from bench.projects import write_people, write_project
from opportune.audiences.loader import load_project

SETS = {
    "one": one(),
    "hundred": hundred(),
    "nothing": nothing(),
    "ten": actions(2),
    "thousand": actions(200),
    "storm": storm("2 minutes"),
    "memory": memory(),
}


@pytest.mark.parametrize("name", SETS)
def test_the_projects_load(tmp_path: Path, name: str) -> None:
    people = write_people(tmp_path, 50)
    directory = write_project(
        tmp_path / name, name=name, bootstrap="127.0.0.1:1", events="events", audiences=SETS[name], people=people
    )
    project = load_project(directory)
    assert [a.name for a in project.audiences] == sorted(d.name for d in SETS[name])
    assert project.settings.topics.events == ("events",)


@pytest.mark.parametrize(
    ("definitions", "traffic", "count", "mean"),
    [
        (hundred(), Traffic(), 100, 5.0),
        (actions(2), Traffic(weights=ACTIONS[:2]), 10, 5.0),
        (actions(200), Traffic(weights=ACTIONS), 1_000, 5.0),
        (nothing(), Traffic(), 1, 0.0),
        (one(), Traffic(), 1, 0.2),
    ],
)
def test_an_event_touches_as_many_as_the_bars_say(
    definitions: list[Definition], traffic: Traffic, count: int, mean: float
) -> None:
    assert len(definitions) == count
    assert touched(definitions, traffic) == pytest.approx(mean, abs=0.1)


def test_two_events_fill_all_features_of_the_memory_set() -> None:
    assert touched(memory(), Traffic(weights=ACTIONS[:1])) + touched(memory(), Traffic(weights=ACTIONS[1:2])) == 12


def test_a_fifth_of_the_shop_is_pricing() -> None:
    assert SHOP[0][1] / sum(weight for _, weight in SHOP) == pytest.approx(0.2)
