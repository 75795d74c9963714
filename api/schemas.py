"""What look-ups answer: the models of the OpenAPI document.

Owns: names, types and examples. Not here: how they come about (api.routes.lookups).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UNTIL = "the instant at which time alone will end it, if nothing happens; missing: it will not"


class Freshness(BaseModel):
    """For which moment an answer is true: everything that came to the shard up to ``as_of`` is in it."""

    shard: int
    as_of: str = Field(description="log time, ISO 8601", examples=["2026-01-01T12:00:00.000Z"])
    age_ms: int = Field(description="the clock less the shard's log time", examples=[310])
    position: str = Field(
        description="by shard that was looked at, the last write that was seen: min_position of a later question",
        examples=["2-48112"],
    )


class MembershipAnswer(BaseModel):
    """A person is in an audience."""

    audience: str = Field(examples=["pricing_intent"])
    since: str = Field(examples=["2026-01-01T12:00:00.000Z"])
    until: str | None = Field(None, description=UNTIL, examples=["2026-01-01T12:10:00.000Z"])


class WarmingAnswer(BaseModel):
    """An audience of which nobody can say yet who is in it, and until when; without ``until``: no time completes it."""

    audience: str
    until: str | None = None


class ProfileAnswer(BaseModel):
    """A person."""

    profile_id: str
    identifiers: dict[str, list[str]]
    memberships: list[MembershipAnswer] | None = None
    warming: list[WarmingAnswer] | None = None
    traits: dict[str, Any] | None = None
    computed_traits: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = Field(
        None,
        description="warehouse columns by table.column; timestamps are ISO 8601",
        examples=[{"customers.plan": "free", "customers.customer_since": "2021-02-27T00:00:00.000Z"}],
    )
    approximate: list[str] | None = Field(
        None, description="audiences that look at more events of this person than are kept one by one"
    )
    freshness: Freshness


class MembershipsAnswer(BaseModel):
    """The audiences that a person is in."""

    profile_id: str
    memberships: list[MembershipAnswer]
    warming: list[WarmingAnswer]
    freshness: Freshness


class OneMembershipAnswer(BaseModel):
    """Whether a person is in one audience, and since when."""

    profile_id: str
    audience: str
    member: bool | None
    warming: WarmingAnswer | None = None
    since: str | None = None
    until: str | None = Field(None, description=UNTIL)
    freshness: Freshness


class ExplainedAnswer(BaseModel):
    """One condition, and what it saw."""

    asks: str = Field(examples=["Pricing Viewed, 3 times or more within 10 minutes"])
    holds: bool
    kind: str = Field(examples=["event"])
    saw: str = Field("", examples=["2, at 11:58:10, 11:59:30"])
    missing: str = Field("", examples=["1 more, while those there are in the 10 minutes"])
    next_change: str | None = None
    value: Any = None
    instants: list[str] = []
    parts: list[ExplainedAnswer] = []
    seen_since: str | None = None


class ExplanationAnswer(BaseModel):
    """Why a person is in an audience, or not: the tree of ``opportune explain --json``."""

    audience: str
    description: str = ""
    profile_id: str
    identifiers: list[str]
    at: str
    member: bool | None = Field(description="null while the audience is warming")
    condition: ExplainedAnswer
    next_change: str | None = None
    warming_until: str | None = None
    freshness: Freshness


class ErasureRequest(BaseModel):
    """Who is to be forgotten."""

    model_config = ConfigDict(extra="forbid")
    identifiers: list[str] = Field(min_length=1, max_length=100, examples=[["user_id:ada"]])


class ErasureAnswer(BaseModel):
    """How far a request to forget somebody has come. Instants are ISO 8601."""

    request: str = Field(description="its name, for GET /v1/erasures/{request}")
    state: Literal["pending", "erased", "complete"]
    requested_at: str = Field(description="events that arrived up to then are forgotten")
    completed_at: str | None = Field(description="since when nothing of the person is on its way")
    profiles: int = Field(description="how many profiles were forgotten")
    suppressed_until: str = Field(description="so long events of before stay refused, should topics be read again")
    message_ids_until: str = Field(description="hashes of message ids, which name nobody, are kept until then at most")
    dead_letters_until: str = Field(description="refused records of before are in their topic until then at most")


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


class LastHour(BaseModel):
    """Membership changes of the last hour, or since this service has read them."""

    since: str = Field(examples=["2026-01-01T11:00:00.000Z"])
    entered: int
    exited: int


class DefinitionAnswer(BaseModel):
    """A condition in words, and what it is made of."""

    asks: str
    parts: list[DefinitionAnswer] = []


class FeatureAnswer(BaseModel):
    """What is kept of a person for an audience: ``opportune check --explain-plan``."""

    event: str = Field(examples=["track Pricing Viewed"])
    where: str
    keeps: str = Field(examples=["the last 3 instants"])
    bytes_max: int
    audiences: list[str]
    conditions: int


class PlanAnswer(BaseModel):
    """What is kept of a person for an audience, and the messages that may change it."""

    features: list[FeatureAnswer]
    evaluated_at: list[str]


class AudienceAnswer(BaseModel):
    """An audience of the project."""

    name: str = Field(examples=["pricing_intent"])
    description: str
    definition_version: str
    members: int | None = Field(
        None, description="how many there were at members_as_of; null while it is warming; missing while nobody can say"
    )
    members_as_of: str | None = Field(None, examples=["2026-01-01T12:00:00.000Z"])
    last_hour: LastHour | None = Field(None, description="missing until the past has been read")
    definition: DefinitionAnswer | None = Field(None, description="of one audience")
    plan: PlanAnswer | None = Field(None, description="of one audience")


class AudiencesAnswer(BaseModel):
    """All audiences of the project."""

    audiences: list[AudienceAnswer]


class Version(BaseModel):
    """Which rows an answer is of."""

    version: str = Field(examples=["1767268800000"])
    refreshed: str = Field(description="when the source was read", examples=["2026-01-01T12:00:00.000Z"])


class CollectionAnswer(Version):
    """A table of the project."""

    name: str = Field(examples=["customers"])
    namespace: str = Field(description="what kind of identifier its key is", examples=["user_id"])
    key: str = Field(description="the key column", examples=["user_id"])
    columns: dict[str, str] = Field(examples=[{"plan": "string", "country": "string"}])
    indexes: list[str] = Field(examples=[["country"]])
    rows: int


class CollectionsAnswer(BaseModel):
    """The tables of the project."""

    collections: list[CollectionAnswer]


class Row(BaseModel):
    """A row: its key, and the columns that have a value."""

    key: str = Field(examples=["ada"])
    row: dict[str, Any] = Field(examples=[{"plan": "free", "country": "FR"}])


class RowAnswer(Version, Row):
    """The row of a key."""

    collection: str


class RowsAnswer(Version):
    """The rows with a value."""

    collection: str
    rows: list[Row]
    next: str | None = Field(
        None, description="cursor of the next page; missing on the last", examples=["1767268800000-99"]
    )


class ProblemAnswer(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:opportune:problem:no_such_person"])
    title: str
    status: int
    detail: str
    freshness: Freshness | None = Field(None, description="of no_such_person")
