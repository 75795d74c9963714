"""The identity graph of a shard, for flows.actor and for what explains it."""

from flows.identity.absorbed import earlier, used_by_absorbed
from flows.identity.graph import Graph

__all__ = ["Graph", "earlier", "used_by_absorbed"]
