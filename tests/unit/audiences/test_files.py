"""opportune.yml, events.yml, warehouse.yml and audiences/*.yml: what each says, and what it must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.schema import (
    Comparison,
    EventModel,
    Guard,
    Origin,
    Predicate,
    Table,
    ValueType,
    Where,
)
from opportune.audiences.schema import Path as MessagePath
from opportune.errors import DefinitionError
from opportune.project import Project
from opportune.settings import Clock, Dedupe, Kafka, Poison, Settings, State, Topics
from tests.unit.audiences.projects import loaded, problems

ONE = "name: a\nwhen: {trait: x, is: y}\n"


def project(directory: Path, files: dict[str, str | bytes]) -> Project:
    found, diagnostics = loaded(directory, {"audiences/a.yml": ONE, **files})
    assert found is not None, diagnostics
    return found


def refused(directory: Path, name: str, content: str) -> list[str]:
    found = problems(directory, {"audiences/a.yml": ONE, name: content})
    return [one.removeprefix(f"{name}:") for one in found]


def test_settings_that_are_not_written_have_their_defaults(tmp_path: Path) -> None:
    found = project(tmp_path, {"opportune.yml": "name: shop\n"})
    topics = Topics(
        events=("shop.events",),
        memberships="shop.memberships",
        dead_letters="shop.dead-letters",
        mailbox="shop.mailbox",
        control="shop.control",
    )
    assert (found.name, found.settings) == ("shop", Settings(topics=topics))


def test_every_setting(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "opportune.yml": """\
name: shop-2
timezone: Europe/Paris
session: {gap: 20 minutes}
clock: {lateness: 2 hours, idle: 5s, mark: 20 ms, skew: 1 ms}
dedupe: {period: 1 day}
kafka:
  bootstrap_servers: [a:9092, b:9092]
  properties: {security.protocol: SASL_SSL, socket.keepalive.enable: true, retries: 5}
topics: {events: [one, two], memberships: m, dead_letters: d, mailbox: b, control: c,
         partitions: 3, replication: 3, retention: ever, create: false, watch: 1 minute, mailbox_retention: 1 hour}
state: {directory: /var/lib/shop, shards: 1024, durability: batch}
poison: {action: stop, deaths: 5, budget_an_hour: 0}
epoch: 500 ms
event_bytes_max: 4096
watchdog: 2 minutes
"""
        },
    )
    assert found.name == "shop-2"
    assert found.settings == Settings(
        timezone="Europe/Paris",
        session_gap_ms=1_200_000,
        clock=Clock(lateness_ms=7_200_000, idle_ms=5_000, mark_ms=20, skew_ms=1),
        dedupe=Dedupe(period_ms=86_400_000),
        kafka=Kafka(
            bootstrap_servers="a:9092,b:9092",
            properties={"security.protocol": "SASL_SSL", "socket.keepalive.enable": "true", "retries": "5"},
        ),
        topics=Topics(
            events=("one", "two"),
            memberships="m",
            dead_letters="d",
            mailbox="b",
            control="c",
            partitions=3,
            replication=3,
            retention_ms=-1,
            mailbox_retention_ms=3_600_000,
            create=False,
            watch_ms=60_000,
        ),
        state=State(directory="/var/lib/shop", shards=1024, durability="batch"),
        poison=Poison(action="stop", deaths=5, budget_an_hour=0),
        epoch_ms=500,
        event_bytes_max=4096,
        watchdog_ms=120_000,
    )


@pytest.mark.parametrize(("text", "action"), [("stop", "stop"), ("quarantine", "quarantine")])
def test_poison_in_one_word(tmp_path: Path, text: str, action: str) -> None:
    assert project(tmp_path, {"opportune.yml": f"name: shop\npoison: {text}\n"}).settings.poison.action == action


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("timezone: UTC\n", "1:1 error: opportune.yml needs `name`"),
        ("", "1:1 error: opportune.yml is empty"),
        ("[a]\n", "1:1 error: opportune.yml is a mapping (`key: value`), not a list"),
        ("name: shop\n---\nname: b\n", "3:1 error: opportune.yml is one document"),
        ("name: my shop\n", "1:7 error: `my shop` cannot be a project's name"),
        ("name: a\nshards: 3\n", "2:1 error: opportune.yml has no key `shards`"),
        ("name: a\napi: {}\n", "2:1 error: `api` is not in this version yet"),
        ("name: a\nclock: {latenes: 1h}\n", "2:9 error: `clock` has no key `latenes`"),
        ("name: a\nclock: 5\n", "2:8 error: `clock` is a mapping (`key: value`), not `5`"),
        ("name: a\nclock: {lateness: 24}\n", "2:19 error: `clock.lateness`: `24` has no unit"),
        ("name: a\nclock: {mark: 1 hour}\n", "2:15 error: `clock.mark` is a duration from 1 ms to 10 seconds, not `1 hour`"),
        ("name: a\nstate: {shards: 0}\n", "2:17 error: `state.shards` is a whole number from 1 to 1,024, not `0`"),
        ("name: a\nstate: {shards: 1025}\n", "2:17 error: `state.shards` is a whole number from 1 to 1,024, not `1025`"),
        ("name: a\nstate: {shards: 1.5}\n", "2:17 error: `state.shards` is a whole number from 1 to 1,024, not `1.5`"),
        ("name: a\nstate: {shards: true}\n", "2:17 error: `state.shards` is a whole number from 1 to 1,024, not `true`"),
        ("name: a\nstate: {durability: always}\n", "2:21 error: `state.durability` is one of `epoch`, `batch`, not `always`"),
        ("name: a\ntimezone: Paris\n", "2:11 error: there is no time zone `Paris`"),
        ("name: a\ntimezone: ../../etc/passwd\n", "2:11 error: there is no time zone `../../etc/passwd`"),
        ("name: a\ntopics: {events: []}\n", "2:18 error: `topics.events` is empty"),
        ("name: a\ntopics: {events: a b}\n", "2:18 error: `a b` cannot be a topic's name"),
        ("name: a\ntopics: {events: [a, a]}\n", "2:22 error: the topic `a` is there twice"),
        ("name: a\ntopics: {events: [a, b], control: b}\n", "2:35 error: the topic `b` is also `topics.events`"),
        ("name: a\ntopics: {create: maybe}\n", "2:18 error: `topics.create` is `true` or `false`, not `maybe`"),
        ("name: a\ntopics: {replication: 0}\n", "2:23 error: `topics.replication` is a whole number from 1 to 100, or -1, not `0`"),
        ("name: a\nkafka: {bootstrap_servers: []}\n", "2:28 error: `kafka.bootstrap_servers` is empty"),
        ("name: a\nkafka: {properties: {bootstrap.servers: x}}\n", "2:22 error: `bootstrap.servers` has a key of its own"),
        ("name: a\nkafka: {properties: {a: [1]}}\n", "2:25 error: `kafka.properties`: `a` is a single value, not a list"),
        ("name: a\npoison: explode\n", "2:9 error: `poison` is one of `quarantine`, `stop`, not `explode`"),
        ("name: a\npoison: [stop]\n", "2:9 error: `poison` is `quarantine`, `stop` or a mapping, not a list"),
        ("name: a\nevent_bytes_max: .inf\n", "2:18 error: `.inf` is not a number that anything can be compared with"),
    ],
)  # fmt: skip
def test_settings_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert refused(tmp_path, "opportune.yml", content) == [expected]


def test_models(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "events.yml": """\
Order: {properties: {total: number}}
Purchase: {type: track, name: Order Completed, where: {amount: ">= 1", context.app: web},
           properties: {amount: {path: cart.total, type: number}}}
Any Page: {type: page}
Home: {type: screen, name: Home}
Signed In: {type: identify}
"""
        },
    )
    one = Predicate((Comparison("gte", 1),))
    web = Predicate((Comparison("eq", "web"),))
    assert found.models == {
        "Order": EventModel("Order", "track", "Order"),
        "Purchase": EventModel(
            "Purchase",
            "track",
            "Order Completed",
            (Where(MessagePath("properties", ("cart", "total")), one), Where(MessagePath("context", ("app",)), web)),
        ),
        "Any Page": EventModel("Any Page", "page", None),
        "Home": EventModel("Home", "screen", "Home"),
        "Signed In": EventModel("Signed In", "identify", None),
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[a]\n", "1:1 error: events.yml is a mapping (`key: value`), not a list"),
        ("A: {}\n---\nA: {}\n", "3:1 error: the event `A` is declared twice"),
        ("A: track\n", "1:4 error: the event `A` is a mapping (`key: value`), not `track`"),
        ("A: {type: trac}\n", "1:11 error: `type` is one of `track`, `page`, `screen`, `identify`, `group`, `alias`, not `trac`"),
        ("A: {typ: track}\n", "1:5 error: the event `A` has no key `typ`"),
        ("A: {type: identify, name: B}\n", "1:21 error: `identify` calls have no name"),
        ("A: {topic: raw}\n", "1:5 error: `topic` is not in this version yet"),
        ("A: {properties: {total: money}}\n", "1:25 error: the type of `total` is one of `string`, `number`, `boolean`, `timestamp`, not `money`"),
        ("A: {properties: {total: {type: number}}}\n", "1:25 error: the property `total` needs `path`"),
        ("A: {properties: {a..b: number}}\n", "1:18 error: `a..b` is not a path: a key is empty"),
        ("A: {where: {total: 3}, properties: {total: string}}\n", "1:20 error: the property `total` is a text, not the number `3`"),
    ],
)  # fmt: skip
def test_models_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert refused(tmp_path, "events.yml", content) == [expected]


def test_an_event_with_errors_is_still_declared(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"events.yml": "A: {typ: page}\n", "audiences/a.yml": "name: a\nwhen: {event: A}\n"}
    assert problems(tmp_path, files) == ["events.yml:1:5 error: the event `A` has no key `typ`"]


def test_tables(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "warehouse.yml": """\
tables:
  people: {source: people.parquet, key: id}
  devices: {source: d.csv, key: device, namespace: anonymous_id, columns: {os: string, seen: timestamp}, order_by: seen}
"""
        },
    )
    assert found.tables == {
        "people": Table("people", "people.parquet", "id"),
        "devices": Table("devices", "d.csv", "device", "anonymous_id", {"os": "string", "seen": "timestamp"}, "seen"),
    }


def test_sources(tmp_path: Path) -> None:
    text = """\
tables:
  a: {source: s3://lake/a.parquet, key: id, refresh: 10 minutes}
  b: {source: {file: s3://lake/b.csv, options: {endpoint_override: "127.0.0.1:1", region: x}}, key: id, refresh: manual}
  c:
    source: {postgres: "${DSN}", query: select * from c}
    key: id
    guard: {rows_lost: 5%, cells_changed: 12.5 %}
  d: {source: {file: d.csv}, key: id}
  e: {source: {delta: lake/e}, key: id}
"""
    found = project(tmp_path, {"warehouse.yml": text}).tables
    options = {"endpoint_override": "127.0.0.1:1", "region": "x"}
    assert found == {
        "a": Table("a", "s3://lake/a.parquet", "id", origin=Origin("file"), refresh_ms=600_000),
        "b": Table("b", "s3://lake/b.csv", "id", origin=Origin("file", None, options)),
        "c": Table(
            "c",
            "${DSN}",
            "id",
            origin=Origin("postgres", "select * from c"),
            guard=Guard(0.05, 0.125),
        ),
        "d": Table("d", "d.csv", "id"),
        "e": Table("e", "lake/e", "id", origin=Origin("delta")),
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("customers: {}\n", "1:1 error: warehouse.yml has no key `customers`|1:1 error: warehouse.yml needs `tables`"),
        ("tables: [a]\n", "1:9 error: `tables` is a mapping (`key: value`), not a list"),
        ("tables: {a: {source: x}}\n", "1:13 error: the table `a` needs `key`"),
        ("tables: {a.b: {source: x, key: y}}\n", "1:10 error: `a.b` cannot be a table's name"),
        ("tables: {a: {source: x, key: y, namespace: mail}}\n", "1:33 error: there is no namespace `mail`"),
        ("tables: {a: {source: 'postgresql://x/y', key: y}}\n", "1:22 error: a database needs a query"),
        ("tables: {a: {source: {}, key: y}}\n", "1:22 error: `source` names one system"),
        ("tables: {a: {source: {postgres: x, duckdb: y}, key: y}}\n", "1:22 error: `source` names one system"),
        ("tables: {a: {source: {postgres: x}, key: y}}\n", "1:22 error: `postgres` needs `query`"),
        ("tables: {a: {source: {delta: x, query: y}, key: y}}\n", "1:33 error: `delta` takes no `query`"),
        ("tables: {a: {source: {oracle: x}, key: y}}\n", "1:22 error: `source` names one system|1:23 error: `source` has no key `oracle`"),
        ("tables: {a: {source: {file: x, options: {a: [1]}}, key: y}}\n", "1:45 error: `options.a` is a single value, not a list"),
        ("tables: {a: {source: x, key: y, refresh: 1}}\n", "1:42 error: `refresh`: `1` has no unit"),
        ("tables: {a: {source: x, key: y, refresh: 1ms}}\n", "1:42 error: `refresh` is a duration from 1 second to 365 days, not `1ms`"),
        ("tables: {a: {source: x, key: y, incremental: {}}}\n", "1:46 error: `incremental` needs `column`"),
        (
            "tables: {a: {source: x, key: y, incremental: {column: at}}}\n",
            "1:46 error: with `incremental` alone, rows that are deleted would stay for ever",
        ),
        (
            "tables: {a: {source: x, key: y, order_by: n, incremental: {column: at, deleted: gone}}}\n",
            "1:33 error: `order_by` has to be the column of `incremental`",
        ),
        (
            "tables: {a: {source: x, key: y, incremental: {column: at, full: soon}}}\n",
            "1:65 error: `incremental.full`: `soon` is not a duration",
        ),
        ("tables: {a: {source: x, key: y, guard: {rows_lost: 0.2}}}\n", "1:52 error: `guard.rows_lost` is a share from `0%` to `100%`, not `0.2`"),
        ("tables: {a: {source: x, key: y, indexes: z}}\n", "1:42 error: `indexes` is a list of columns, not `z`"),
        ("tables: {a: {source: x, key: y, indexes: [z, z]}}\n", "1:46 error: the column `z` is there twice"),
        ("tables: {a: {source: x, key: y, columns: {c: text}}}\n", "1:46 error: the type of `c` is one of `string`, `number`, `boolean`, `timestamp`, not `text`"),
        ("tables: {a: {source: x, key: y}}\n---\ntables: {a: {source: x, key: y}}\n", "3:10 error: the table `a` is declared twice"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert refused(tmp_path, "warehouse.yml", content) == expected.split("|")


TWO_TABLES = "tables: {a: {source: a.csv, key: id}, b: {source: b.csv, key: id}}\n"
COLUMNS: dict[str, dict[str, ValueType]] = {
    "a": {"id": "string", "plan": "string", "both": "number"},
    "b": {"id": "string", "both": "string", "since": "timestamp"},
}


def attribute_problems(directory: Path, attribute: str, value: str = "x") -> list[str]:
    when = f"name: a\nwhen: {{attribute: {attribute}, is: {value}}}\n"
    files: dict[str, str | bytes] = {"warehouse.yml": TWO_TABLES, "audiences/a.yml": when}
    return [one.partition(" ")[2] for one in problems(directory, files, lambda table, directory: COLUMNS[table.name])]


def test_columns_come_from_the_file_where_they_are_not_declared(tmp_path: Path) -> None:
    assert attribute_problems(tmp_path, "plan") == []
    assert attribute_problems(tmp_path, "b.both") == []
    assert attribute_problems(tmp_path, "both") == ["error: several tables have a column `both`"]
    assert attribute_problems(tmp_path, "plna") == ["error: no table has a column `plna`"]
    assert attribute_problems(tmp_path, "a.since") == ["error: the table `a` has no column `since`"]
    assert attribute_problems(tmp_path, "since", "2024-01-01") == []
    assert attribute_problems(tmp_path, "since", "soon") == ["error: `soon` is not an instant"]


def test_without_a_look_into_files_an_undeclared_table_may_have_any_column(tmp_path: Path) -> None:
    def found(tables: str, attribute: str) -> list[str]:
        text = f"name: a\nwhen: {{attribute: {attribute}, is: x}}\n"
        return problems(tmp_path, {"warehouse.yml": tables, "audiences/a.yml": text})

    assert found("tables: {a: {source: a.csv, key: id}}\n", "plan") == []
    assert found(TWO_TABLES, "a.plan") == []
    assert "several tables" in found(TWO_TABLES, "plan")[0]


def broken(table: Table, directory: Path) -> dict[str, ValueType]:
    file = directory.name, table.source
    raise DefinitionError(f"{file}: it is broken\n{file}: in two places")


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    declared = "tables: {a: {source: a.csv, key: id, columns: {plan: string}}}\n"
    files: dict[str, str | bytes] = {"audiences/a.yml": ONE, "warehouse.yml": declared}
    found = problems(tmp_path, files, broken)
    assert [one.split(": ")[0] for one in found] == ["warehouse.yml:1:10 warning"] * 2
    (tmp_path / "a.csv").write_text("id\n")
    assert [one.split(": ")[0] for one in problems(tmp_path, files, broken)] == ["warehouse.yml:1:10 error"] * 2
    (tmp_path / "a.csv").unlink()
    files["warehouse.yml"] = "tables: {a: {source: a.csv, key: id}}\n"
    assert [one.split(": ")[0] for one in problems(tmp_path, files, broken)] == ["warehouse.yml:1:10 error"] * 2


def test_declared_columns_must_be_in_the_file(tmp_path: Path) -> None:
    declared = "tables: {a: {source: a.csv, key: id, order_by: at, columns: {plna: string}}}\n"
    files: dict[str, str | bytes] = {"audiences/a.yml": ONE, "warehouse.yml": declared}
    found = problems(tmp_path, files, lambda table, directory: COLUMNS["a"])
    assert [one.rsplit(" ", 1)[1] for one in found] == ["`at`", "`plna`"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("free\n", "1:1 error: an audience is a mapping with `name` and `when`, not `free`"),
        ("[]\n", "1:1 error: an empty list of audiences"),
        ("when: {trait: x, is: y}\n", "1:1 error: an audience needs `name`"),
        ("name: a\n", "1:1 error: an audience needs `when`"),
        ("name: a\nwhn: {trait: x, is: y}\n", "2:1 error: an audience has no key `whn`"),
        ("name: a b\nwhen: {trait: x, is: y}\n", "1:7 error: `a b` cannot be a name"),
        ("name: [a]\nwhen: {trait: x, is: y}\n", "1:7 error: `name` is a single value, not a list"),
        ("name: a\nstart: full\nwhen: {trait: x, is: y}\n", "2:8 error: `start` is one of `empty`, not `full`"),
        ("name: a\ndescription: {}\nwhen: {trait: x, is: y}\n", "2:14 error: `description` is a single value, not a mapping"),
        ("name: a\nwhen: {trait: x, is: y}\n---\n- name: a\n  when: {trait: x, is: y}\n", "4:9 error: the audience `a` is there twice"),
    ],
)  # fmt: skip
def test_audiences_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in refused(tmp_path, "audiences/a.yml", content)


def test_audiences_in_all_forms(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "audiences/a.yml": "name: z\ndescription: |\n  of the zoo\nstart: empty\nwhen: {trait: x, is: y}\n",
            "audiences/b.yml": "- {name: y, when: {trait: x, is: y}}\n- {name: b, when: {trait: x, is: y}}\n",
            "audiences/c.yml": "name: x\nwhen: {trait: x, is: y}\n---\nname: c\nwhen: {trait: x, is: y}\n",
        },
    )
    assert [one.name for one in found.audiences] == ["b", "c", "x", "y", "z"]
    last = found.audiences[-1]
    assert (last.description, last.start_empty) == ("of the zoo", True)
