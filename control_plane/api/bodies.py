"""What the API takes and gives, as models; the OpenAPI document is made from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.differences import Difference, differences
from control_plane.model import ONE_LINE, Change, ServicePolicy
from control_plane.outcome import Outcome

Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        pattern=ONE_LINE,
        description="Why, in one line; stands in the record.",
    ),
]


DryRun = Annotated[bool, Field(description="Say what would change, and write nothing.")]


class Body(BaseModel):
    """Base of all: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


LINES = "application/x-ndjson"


class Lines(Body):
    """An answer that may be had as JSON lines as well, by `Accept: application/x-ndjson`."""

    @abstractmethod
    def text(self) -> str:
        """Its lines."""


class InitWish(Body):
    """Begin with an empty policy."""

    reason: Reason = "first start"
    force: Annotated[bool, Field(description="Begin a new epoch although a gate runs an older one.")] = False


class RepairWish(Body):
    """Accept what lies in Consul."""

    reason: Reason


class InitDone(Body):
    """Whether the policy was begun by this call."""

    initialised: bool
    epoch: int
    revision: int


class TrafficWish(Body):
    """Weights by version, in percent; what is missing to 100 goes to the stable version."""

    weights_pct: dict[str, float]
    reason: Reason
    expected_revision: int | None = None
    dry_run: DryRun = False


class FieldShown(Body):
    """One field before and after; null where it was not there."""

    path: Annotated[str, Field(description="Like lanes[0].weight_pct.")]
    before: Any
    after: Any


class DifferenceShown(Body):
    """One document before and after; null where there was none, and both null for a key, which is never shown."""

    kind: str
    name: str
    action: Literal["added", "changed", "removed", "touched"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    fields: tuple[FieldShown, ...] = ()

    @classmethod
    def of(cls, one: Difference) -> DifferenceShown:
        """From what the core says."""
        fields = tuple(FieldShown(path=field.path, before=field.before, after=field.after) for field in one.fields)
        return cls(kind=one.kind, name=one.name, action=one.action, before=one.before, after=one.after, fields=fields)


def shown(changes: Iterable[Change]) -> tuple[DifferenceShown, ...]:
    """Changes as the API shows them."""
    return tuple(DifferenceShown.of(one) for one in differences(changes))


class Done(Body):
    """What became of a change."""

    epoch: int
    revision: int
    changed: Annotated[bool, Field(description="False: it was so already.")]
    in_force: Annotated[bool, Field(description="Every gate that counts has it.")]
    waiting_for: Annotated[tuple[str, ...], Field(description="Gates that do not have it yet.")]
    in_force_ms: float
    dry_run: Annotated[bool, Field(description="Nothing was written; `changed` says whether it would be.")] = False
    changes: Annotated[tuple[DifferenceShown, ...], Field(description="What was, or would be, written.")] = ()

    @classmethod
    def of(cls, outcome: Outcome) -> Done:
        """From what the control plane says."""
        return cls(
            epoch=outcome.revision.epoch,
            revision=outcome.revision.number,
            changed=outcome.changed,
            in_force=not outcome.waiting_for,
            waiting_for=outcome.waiting_for,
            in_force_ms=round(outcome.in_force_s * 1000, 1),
            dry_run=outcome.dry_run,
            changes=shown(outcome.changes),
        )


class InstanceShown(Body):
    """A registered instance."""

    id: str
    version: str
    address: str
    state: Literal["serving", "draining"]
    passing: bool
    probe: Annotated[str, Field(description="Through the gate: `ok`, `failing: …`, or `unknown`.")] = "unknown"


class ServiceShown(Body):
    """A service: what was decided, and what has registered. ``policy`` is null until it is taken in."""

    name: str
    policy: ServicePolicy | None
    instances: tuple[InstanceShown, ...]


class GateShown(Body):
    """A gate and what it has in force."""

    id: str
    live: bool
    epoch: int
    revision: int
    problems: tuple[str, ...]


class ReplicaShown(Body):
    """A living replica of the control plane."""

    id: str
    url: str
    leading: bool


class Status(Body):
    """The control plane in one look."""

    replica: Annotated[str, Field(description="Who answers this.")]
    leading: Annotated[bool, Field(description="Whether that is the leader.")]
    leader: Annotated[str, Field(description='The leader\'s id; "" during an election.')]
    replicas: Annotated[tuple[ReplicaShown, ...], Field(description="All that live.")]
    initialised: bool
    epoch: int
    revision: int
    gates: tuple[GateShown, ...]
    message: str = ""
    mirror: Annotated[str, Field(description='What is wrong with the git mirror; "" if nothing is.')] = ""
    waiting: Annotated[
        tuple[str, ...],
        Field(description="What waits for a person, or for instances to come or go: a sentence each."),
    ] = ()


class Services(Body):
    """All services."""

    revision: int
    services: tuple[ServiceShown, ...]


class Problem(Body):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
