"""The dataflow, as the picture in docs/architecture.md: inputs, one step keyed by shard, one sink.

Owns: the graph and its running. Invariant: it is linear; no stream has two readers (Bytewax 0.21 clones items unsafely
where one has).
Not here: what the parts do (flows.bytewax_step, flows.sinks).
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir

from flows.bytewax_step import Inbox, step
from flows.job import Job
from flows.sinks import MembershipSink


def dataflow(job: Job, sink: MembershipSink) -> Dataflow:
    """The graph of a job."""
    flow = Dataflow("opportune")
    batches = op.input("inbox", flow, Inbox(job))
    messages = op.stateful_batch("shards", batches, step(job))
    op.output("outbox", messages, sink)
    return flow


def run(flow: Dataflow, recovery: Path, epoch_ms: int) -> None:
    """Runs a dataflow until its source ends.

    Args:
        flow: the graph.
        recovery: Bytewax's recovery store; made where it is missing.
        epoch_ms: how long an epoch is.
    """
    if not (recovery / "part-0.sqlite3").exists():
        shutil.rmtree(recovery, ignore_errors=True)
        recovery.mkdir(parents=True)
        init_db_dir(recovery, 1)
    cli_main(flow, epoch_interval=timedelta(milliseconds=epoch_ms), recovery_config=RecoveryConfig(str(recovery)))
