"""CloudEvents 1.0 headers of membership changes, binary mode of the Kafka binding.

Owns: the mapping. Source: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2 (headers ``ce_*``, content-type).

    ce_specversion 1.0           ce_type    opportune.membership.entered | opportune.membership.exited
    ce_id          change.id     ce_time    change.at
    ce_source      /opportune, with /PROJECT where it is given       ce_subject change.profile_id
    content-type   application/json

Not here: the value (opportune.membership).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from opportune.membership import MembershipChange

Headers: TypeAlias = list[tuple[str, bytes]]

_VERSION = ("ce_specversion", b"1.0")
_CONTENT = ("content-type", b"application/json")
_TYPES = {what: ("ce_type", f"opportune.membership.{what}".encode()) for what in ("entered", "exited")}


def source_of(project: str) -> bytes:
    """The ``ce_source`` of a project's changes: source and id together are unique over projects."""
    return f"/opportune/{project}".encode()


def cloud_event_headers(change: MembershipChange, source: bytes = b"/opportune") -> Headers:
    """The headers of a change.

    Args:
        change: what the record says.
        source: ``source_of`` the project, made once.
    """
    return [
        _VERSION,
        ("ce_id", change.id.encode()),
        ("ce_source", source),
        _TYPES[change.change],
        ("ce_time", change.at.encode()),
        ("ce_subject", change.profile_id.encode()),
        _CONTENT,
    ]


def membership_headers(change: str, source: bytes) -> Callable[[bytes, bytes, bytes], Headers]:
    """What makes the headers of entries, or of exits: all that is the same is made once.

    Args:
        change: ``entered`` or ``exited``.
        source: ``source_of`` the project.

    Returns:
        A function of the change's id, instant and profile id.
    """
    fixed_source, fixed_type = ("ce_source", source), _TYPES[change]

    def headers(change_id: bytes, at: bytes, profile_id: bytes) -> Headers:
        return [
            _VERSION,
            ("ce_id", change_id),
            fixed_source,
            fixed_type,
            ("ce_time", at),
            ("ce_subject", profile_id),
            _CONTENT,
        ]

    return headers
