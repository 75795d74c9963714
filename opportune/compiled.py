"""A project made executable: plan, event type, generated code and who it is for.

Owns: putting the parts together, and the actions: what a kind of message does, with the storage keys that it needs.
Not here: each of the parts (opportune.audiences, opportune.decode).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opportune.audiences.approximations import Approximations
from opportune.audiences.compiler import Program, compile_plan
from opportune.audiences.plan import Handler, Plan
from opportune.audiences.warming import wait
from opportune.decode import EventType
from opportune.project import Project


class Action:
    """What a kind of message does.

    Attributes:
        number: the handler's number in the plan.
        fold: the generated function.
        reads: the numbers of the feature groups that it and its evaluations need.
    """

    __slots__ = ("fold", "number", "reads")

    def __init__(self, handler: Handler, fold: Callable[..., bool]) -> None:
        self.number = handler.number
        self.fold = fold
        self.reads = handler.reads


class Compiled:
    """A project, ready to run.

    Args:
        project: a valid project.
        counting: whether evaluations are counted, for tests.
        waiting: by name, until when audiences are warming (``Plan.wait``).
        gone: names and definitions of audiences that the project no longer has and people may still be in.
        former: names of audiences that it had once, in which nobody is any more but by another definition.

    Attributes:
        plan, event_type, program, approximations: the parts.
        tracks: the action of each track call by its event name.
        other_tracks: the action of track calls of other names; None where nothing depends on them.
        kinds: the actions of other calls, by (call type, name or None).
    """

    def __init__(
        self,
        project: Project,
        *,
        counting: bool = False,
        waiting: Mapping[str, int] | None = None,
        gone: Sequence[tuple[str, str]] = (),
        former: Sequence[str] = (),
    ) -> None:
        self.project = project
        self.plan = Plan(project)
        wait(self.plan, waiting or {})
        self.gone = list(gone)
        self.former = list(former)
        self.event_type = EventType(self.plan, project.identity.namespaces)
        self.program: Program = compile_plan(self.plan, self.event_type, counting=counting)
        self.tracks: dict[Any, Action] = {}
        self.kinds: dict[tuple[str, Any], Action] = {}
        for handler in self.plan.handlers:
            fold = self.program.fold[handler.number]
            if fold is None:
                continue
            action = Action(handler, fold)
            if handler.kind[0] == "track":
                self.tracks[handler.kind[1]] = action
            else:
                self.kinds[handler.kind] = action
        self.other_tracks = self.tracks.pop(None, None)
        self.approximations = Approximations(self.plan)
        self.names = [audience.name for audience in self.plan.audiences]

    def action(self, event: Any) -> Action | None:
        """The action of an event, or None where no condition mentions its kind."""
        if event.type == "track":
            return self.tracks.get(event.event, self.other_tracks)
        if self.event_type.named and event.name is not None and event.type in ("page", "screen"):
            named = self.kinds.get((event.type, event.name))
            if named is not None:
                return named
        return self.kinds.get((event.type, None))
