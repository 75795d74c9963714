"""The identity graph of a shard, for flows.actor and for what explains it."""

from flows.identity.graph import Graph, used_by_absorbed

__all__ = ["Graph", "used_by_absorbed"]
