"""The one-rule job in plain Bytewax, as its guide shows: the yardstick that every figure of ours is divided by.

Three pricing views in ten minutes, and plan = free: Bytewax's own Kafka source and sink, one item an event, json.loads,
key_on, stateful_map over a dict, SQLite recovery, epochs of a second. It enters people and never lets them leave by
time, knows no duplicates and keeps no late event in its place: less than what is measured against it.
Owns: that flow, run as a process of its own: ``python -m bench.calibrator``. Its progress goes to a file ten times a
second, read off the source's offsets by a thread, so that measuring costs the flow nothing an event.
Not here: starting it and reading its progress (bench.subjects).
"""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax._bytewax import cli_main
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir

WINDOW = timedelta(minutes=10)
TIMES = 3


def dataflow(bootstrap: str, topic: str, changes: str, plans: dict[str, str], partitions: list[Any]) -> Dataflow:
    """The flow.

    Args:
        bootstrap: address of the broker.
        topic: where events are.
        changes: where membership changes go.
        plans: plan by user_id.
        partitions: gets the source's partitions, for the progress file.
    """

    class Source(KafkaSource):
        def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Any:
            part = super().build_part(step_id, for_part, resume_state)
            partitions.append(part)
            return part

    def view(message: Any) -> tuple[str, dict[str, Any]] | None:
        event = json.loads(message.value)
        if event["type"] == "track" and event["event"] == "Pricing Viewed":
            return event["userId"], event
        return None

    def fold(state: dict[str, Any] | None, event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        if state is None:
            state = {"views": deque(), "member": False}
        now = datetime.fromisoformat(event["timestamp"])
        views = state["views"]
        views.append(now)
        while views[0] <= now - WINDOW:
            views.popleft()
        member = len(views) >= TIMES and plans.get(event["userId"]) == "free"
        change = None
        if member != state["member"]:
            change = {"userId": event["userId"], "change": "entered" if member else "exited", "at": event["timestamp"]}
            state["member"] = member
        return state, change

    def encode(item: tuple[str, Any]) -> KafkaSinkMessage[Any, Any]:
        key, change = item
        return KafkaSinkMessage(key.encode(), json.dumps(change).encode())

    flow = Dataflow("calibrator")
    messages = op.input("events", flow, Source([bootstrap], [topic]))
    keyed = op.filter_map("views", messages, view)
    folded = op.stateful_map("count", keyed, fold)
    found = op.filter_value("changed", folded, lambda change: change is not None)
    op.output("changes", op.map("encode", found, encode), KafkaSink([bootstrap], changes))
    return flow


def main(bootstrap: str, topic: str, changes: str, plans_file: str, directory: str) -> None:
    """Runs the flow until it is ended.

    Args:
        bootstrap: address of the broker.
        topic: where events are.
        changes: where membership changes go.
        plans_file: CSV of user_id, plan.
        directory: recovery store and progress file go there.
    """
    with Path(plans_file).open(newline="") as lines:
        plans = dict(csv.reader(lines))
    recovery = Path(directory) / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    partitions: list[Any] = []
    threading.Thread(target=_progress, args=(Path(directory) / "progress", partitions), daemon=True).start()
    flow = dataflow(bootstrap, topic, changes, plans, partitions)
    cli_main(flow, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(recovery))


def _progress(file: Path, partitions: list[Any]) -> None:
    new = file.with_suffix(".new")
    while True:
        new.write_text(str(sum(max(0, part._offset) for part in partitions)))
        new.replace(file)
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
