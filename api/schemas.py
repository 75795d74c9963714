"""What look-ups answer: the models of the OpenAPI document.

Owns: names, types and examples. Not here: how they come about (api.routes.lookups).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Freshness(BaseModel):
    """For which moment an answer is true: everything that came to the shard up to ``as_of`` is in it."""

    shard: int
    as_of: str = Field(description="log time, ISO 8601", examples=["2026-01-01T12:00:00.000Z"])
    age_ms: int = Field(description="the clock less the shard's log time")


class MembershipAnswer(BaseModel):
    """A person is in an audience."""

    audience: str
    since: str = Field(examples=["2026-01-01T12:00:00.000Z"])


class ProfileAnswer(BaseModel):
    """A person."""

    profile_id: str
    identifiers: dict[str, list[str]]
    memberships: list[MembershipAnswer] | None = None
    traits: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None
    approximate: list[str] | None = Field(
        None, description="audiences that look at more events of this person than are kept one by one"
    )
    freshness: Freshness


class MembershipsAnswer(BaseModel):
    """The audiences that a person is in."""

    profile_id: str
    memberships: list[MembershipAnswer]
    freshness: Freshness


class OneMembershipAnswer(BaseModel):
    """Whether a person is in one audience, and since when."""

    profile_id: str
    audience: str
    member: bool
    since: str | None = None
    freshness: Freshness


class LookupsRequest(BaseModel):
    """Who is asked for, and which fields."""

    model_config = ConfigDict(extra="forbid")
    identifiers: list[str] = Field(examples=[["user_id:ada", "anonymous_id:1f"]])
    fields: list[str] | None = None


class LookupAnswer(BaseModel):
    """One of several: found or not."""

    identifier: str
    found: bool
    profile: ProfileAnswer | None = None
    freshness: Freshness


class LookupsAnswer(BaseModel):
    """One answer for each identifier, in their order."""

    results: list[LookupAnswer]


class AudienceAnswer(BaseModel):
    """An audience of the project."""

    name: str
    definition_version: str


class AudiencesAnswer(BaseModel):
    """All audiences of the project."""

    audiences: list[AudienceAnswer]


class ProblemAnswer(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:opportune:problem:no_such_person"])
    title: str
    status: int
    detail: str
