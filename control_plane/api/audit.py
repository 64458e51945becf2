"""Routes of the audit trail."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field

from control_plane.api.bodies import Body, Lines
from control_plane.api.route import ApiRoute, Asked
from control_plane.audit import AuditRecord


class AuditRecords(Lines):
    """Some records: newest first, or with `after` oldest first."""

    records: tuple[AuditRecord, ...]

    def text(self) -> str:
        """A record a line, as it lies in the store."""
        return "".join(record.line().decode() + "\n" for record in self.records)


class VerdictShown(Body):
    """What came of looking the trail over."""

    good: bool
    records: Annotated[int, Field(description="How many are kept.")]
    first: int
    last: int
    hash: Annotated[str, Field(description="Of the last one, to be noted elsewhere and compared.")]
    tampered: Annotated[int, Field(description="The first that is not as it was written; 0 = none.")]
    problem: str


async def audit(ask: Asked) -> AuditRecords:
    """Records of the audit trail."""
    limit, after = ask.query.get("limit", 20), ask.query.get("after")
    lines = await ask.plane.audit.page(below=ask.query.get("before"), after=after, limit=limit)
    return AuditRecords(records=tuple(AuditRecord.model_construct(**json.loads(line)) for line in lines))


async def verify_audit(ask: Asked) -> VerdictShown:
    """Look the trail over, and what it says of revisions."""
    found = await ask.plane.audit.verify()
    return VerdictShown(
        good=not found.problem,
        records=found.records,
        first=found.first,
        last=found.last,
        hash=found.hash,
        tampered=found.tampered,
        problem=found.problem,
    )


PAGE = {
    "limit": "How many, 1 to 1000; 20 without.",
    "before": "Only records below this one.",
    "after": "Only records above this one, oldest first.",
}
AUDIT_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/audit", "Who changed or was refused what", audit, AuditRecords, query=PAGE),
    ApiRoute("GET", "/v1/audit/verify", "Whether the trail is whole", verify_audit, VerdictShown),
)
