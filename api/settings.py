"""What the service may do and how much of it: limits and times.

Owns: defaults and units. The command line (opportune.cli.serve) fills it. Not here: keys (api.keys), Kafka's settings.
"""

from __future__ import annotations

import msgspec


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one serving process.

    Args:
        request_bytes_max: of a collector's request, after decompression.
        message_bytes_max: of one event.
        nesting_max: levels of objects and lists in one event.
        waiting_records_max: events that wait for Kafka; beyond it requests are refused with 503.
        waiting_bytes_max: their bytes.
        ride_ms: for so long an event waits for a broker that is away, then its request is refused with 503.
        body_ms: for so long a request's body may take to come.
        lookups_max: identifiers of one ``POST /v1/lookups``.
        staleness_ms: a reader of a shard catches up when it is asked and its last time is longer ago.
        wait_ms: for so long a look-up waits for the freshness that it asks for.
    """

    request_bytes_max: int = 512_000
    message_bytes_max: int = 32_768
    nesting_max: int = 64
    waiting_records_max: int = 100_000
    waiting_bytes_max: int = 64 << 20
    ride_ms: int = 10_000
    body_ms: int = 15_000
    lookups_max: int = 100
    staleness_ms: int = 50
    wait_ms: int = 2_000
