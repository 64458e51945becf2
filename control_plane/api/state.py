"""Routes of the state as a whole: resources, plan and apply, history and rollback, drift."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, RootModel

from control_plane.api import bodies
from control_plane.api.bodies import Body, DifferenceShown, Done, DryRun, Reason, shown
from control_plane.api.route import Answer, ApiRoute, Asked
from control_plane.model import HistoryRecord
from control_plane.resources import Resource, ordered, parse_values, schema
from control_plane.roles import Role
from control_plane.state import Planned

SET_LIMIT_BYTES = 16 << 20
ResourceValue = Annotated[dict[str, Any], Field(description="`kind` and the fields of GET /v1/state/schema.")]


class Schema(RootModel[dict[str, Any]]):
    """A JSON Schema."""


class Exported(Body):
    """All resources, by kind and name."""

    revision: int
    resources: tuple[ResourceValue, ...]


class SetShown(Body):
    """A set to compare with the present."""

    resources: tuple[ResourceValue, ...]
    prune: Annotated[bool, Field(description="Remove what the set leaves out of the kinds it holds.")] = False

    def parsed(self) -> tuple[Resource, ...]:
        """Checked, one by one."""
        return parse_values(self.resources)


class ApplyWish(SetShown):
    """A set to apply."""

    reason: Reason
    expected_revision: Annotated[int | None, Field(description="Refuse if it is another by now.")] = None
    dry_run: DryRun = False


class RollbackWish(Body):
    """A revision to go back to."""

    to: Annotated[int, Field(ge=0)]
    reason: Reason
    expected_revision: int | None = None
    dry_run: DryRun = False


class RestoreWish(Body):
    """Put back what the last revision says."""

    reason: Reason


class NoteWish(Body):
    """What was done outside the policy, to be kept in its history."""

    what: Annotated[str, Field(min_length=1, max_length=200, description="Shown before the reason.")]
    reason: Reason


class PlanShown(Body):
    """What a set would change."""

    revision: Annotated[int, Field(description="The present one; apply with it as expected_revision.")]
    changes: tuple[DifferenceShown, ...]
    kept: Annotated[tuple[str, ...], Field(description="Left out of the set, and staying.")]

    @classmethod
    def of(cls, planned: Planned) -> PlanShown:
        """From what the control plane says."""
        return cls(revision=planned.revision.number, changes=shown(planned.changes), kept=planned.kept)


class Applied(Done):
    """What became of a set or a rollback."""

    kept: Annotated[tuple[str, ...], Field(description="Not in the set or revision, and staying.")] = ()
    settled: Annotated[
        tuple[str, ...],
        Field(description="Services that were at a step of a rollout then: all to their stable version instead."),
    ] = ()


class RecordShown(Body):
    """Who changed what, when and why."""

    epoch: int
    revision: int
    at: Annotated[float, Field(description="Seconds since the epoch.")]
    author: str
    verb: str
    reason: str
    documents: Annotated[int, Field(description="How many it touched.")]

    @classmethod
    def fields_of(cls, record: HistoryRecord) -> dict[str, Any]:
        """What a list shows of a record."""
        fields = record.model_dump(include={"epoch", "at", "author", "verb", "reason"})
        return {**fields, "revision": record.number, "documents": record.touched or len(record.changes)}


class Records(Body):
    """Some records, newest first."""

    records: tuple[RecordShown, ...]


class WholeRecord(RecordShown):
    """A record with what it changed."""

    changes: tuple[DifferenceShown, ...]


class DriftShown(Body):
    """How Consul and the gates differ from the last revision."""

    revision: int
    changes: Annotated[tuple[DifferenceShown, ...], Field(description="From what it says to what lies in Consul.")]
    tables: Annotated[tuple[str, ...], Field(description="Prefixes that another hand has changed.")]
    gates: Annotated[tuple[str, ...], Field(description="What is wrong at gates, a sentence each.")]


async def state_schema(_: Asked) -> Schema:
    """JSON Schema of every kind of resource."""
    return Schema(schema())


async def export(ask: Asked) -> Exported:
    """All resources, now or at a revision."""
    number, documents = await ask.plane.state.export(ask.query.get("revision"))
    return Exported(revision=number, resources=tuple(ordered(documents)))


async def diff(ask: Asked) -> PlanShown:
    """How a set differs from the present, whether it could be applied or not."""
    body = ask.read(SetShown)
    return PlanShown.of(await ask.plane.state.diff(body.parsed(), prune=body.prune))


async def plan(ask: Asked) -> PlanShown:
    """What applying a set would do, checked as `apply` checks it."""
    body = ask.read(SetShown)
    wish = ask.wish("plan", dry_run=True)
    outcome, planned = await ask.plane.state.apply(body.parsed(), wish, prune=body.prune)
    return PlanShown(revision=outcome.revision.number, changes=shown(outcome.changes), kept=planned.kept)


async def apply(ask: Asked) -> Applied:
    """Make the present as the set wants it, in one revision."""
    body = ask.read(ApplyWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    outcome, planned = await ask.plane.state.apply(body.parsed(), wish, prune=body.prune)
    return Applied(**dict(Done.of(outcome)), kept=planned.kept)


async def rollback(ask: Asked) -> Applied:
    """A new revision with the services, clients and deliveries of an earlier one."""
    body = ask.read(RollbackWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    outcome, planned = await ask.plane.state.rollback(body.to, wish)
    return Applied(**dict(Done.of(outcome)), kept=planned.kept, settled=planned.settled)


async def history(ask: Asked) -> Records:
    """The last records, newest first."""
    records = await ask.plane.state.history(below=ask.query.get("before"), limit=ask.query.get("limit", 20))
    return Records(records=tuple(RecordShown(**RecordShown.fields_of(one)) for one in records))


async def record(ask: Asked) -> WholeRecord:
    """One record with what it changed."""
    found = await ask.plane.state.record(ask.number("revision"))
    return WholeRecord(**RecordShown.fields_of(found), changes=shown(found.changes))


async def drift(ask: Asked) -> DriftShown:
    """How Consul and the gates differ from the last revision."""
    found = await ask.plane.state.drift(ask.plane.gates.all)
    return DriftShown(
        revision=found.revision.number,
        changes=shown(found.changes),
        tables=tuple(table.prefix for table in found.tables),
        gates=found.gates,
    )


async def restore(ask: Asked) -> bodies.Done:
    """Put back what the last revision says, over what another hand has changed."""
    return Done.of(await ask.plane.restore(ask.wish(ask.read(RestoreWish).reason)))


async def note(ask: Asked) -> bodies.Done:
    """Write down what changes no policy, as a revision of its own."""
    body = ask.read(NoteWish)
    return Done.of(await ask.plane.note(body.what, ask.wish(body.reason)))


PAGE = {"limit": "How many, 1 to 1000; 20 without.", "before": "Only revisions below this one."}


def _post(
    path: str,
    summary: str,
    answer: Answer,
    gives: type[BaseModel],
    takes: type[BaseModel],
    *,
    needs: Role | None = None,
    by_object: bool = False,
) -> ApiRoute:
    return ApiRoute(
        "POST",
        path,
        summary,
        answer,
        gives,
        takes,
        body_limit_bytes=SET_LIMIT_BYTES,
        needs=needs,
        by_object=by_object,
    )


class UpgradeWish(Body):
    """Bring the state to the newest form."""

    reason: Reason
    dry_run: DryRun = False


class Upgraded(Body):
    """What became of it."""

    before: Annotated[int, Field(description="The form there was.")]
    after: Annotated[int, Field(description="The form there is, or of a dry run would be.")]
    steps: Annotated[tuple[str, ...], Field(description="What was changed, a sentence each.")]


async def upgrade(ask: Asked) -> Upgraded:
    """Bring the state in Consul to the form of this version; the way back from there is a backup."""
    body = ask.read(UpgradeWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    raised = await ask.plane.raise_form(wish)
    return Upgraded(before=raised.before, after=raised.after, steps=raised.steps)


STATE_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/state/schema", "JSON Schema of resources", state_schema, Schema),
    ApiRoute("GET", "/v1/state/resources", "All resources", export, Exported, query={"revision": "As they were then."}),
    _post("/v1/state/diff", "Compare a set with the present", diff, PlanShown, SetShown, needs=Role.VIEWER),
    _post("/v1/state/plan", "What applying a set would do", plan, PlanShown, SetShown, needs=Role.VIEWER),
    _post("/v1/state/apply", "Apply a set", apply, Applied, ApplyWish, by_object=True),
    _post(
        "/v1/state/rollback",
        "Go back to an earlier revision",
        rollback,
        Applied,
        RollbackWish,
        needs=Role.OPERATOR,
        by_object=True,
    ),
    ApiRoute("GET", "/v1/state/history", "The last changes", history, Records, query=PAGE),
    ApiRoute("GET", "/v1/state/history/{revision}", "One change", record, WholeRecord),
    ApiRoute("GET", "/v1/state/drift", "What differs from the last revision", drift, DriftShown),
    _post("/v1/state/notes", "Keep in the history what changes no policy", note, bodies.Done, NoteWish),
    ApiRoute("POST", "/v1/state/upgrade", "Bring the state to the newest form", upgrade, Upgraded, UpgradeWish),
    _post("/v1/state/restore", "Undo what another hand has changed", restore, bodies.Done, RestoreWish),
)
