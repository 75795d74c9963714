"""The reference evaluator: every membership change, recomputed from the full log. It defines what is correct."""

from tests.oracle.history import Change, Outcome, Record, Refresh, Tables, live, replay

__all__ = ["Change", "Outcome", "Record", "Refresh", "Tables", "live", "replay"]
