"""The pages that only show something."""

from __future__ import annotations

import asyncio
import time

from starlette.responses import Response

from control_plane.console import plot, views
from control_plane.console.backend import Json, Refusal
from control_plane.console.visit import Visit, api

MOST_RECORDS = 40
MOST_PAST = 10
PLOTTED = ("tool_errors", "http_5xx", "deadline", "schema", "latency")
"""Which check is shown over time where none speaks against the canary: the first there is."""
GONE = 404


async def overview(visit: Visit) -> Response:
    """Everything, what needs attention first."""
    (services, rollouts), found = await asyncio.gather(
        visit.reads("/v1/services", "/v1/rollouts"), visit.desk.alerts.look()
    )
    alerts = found.by_service()
    rows = views.rows(services["services"], rollouts["rollouts"], alerts)
    counts = [(level, sum(row.level == level for row in rows)) for level in views.LEVELS]
    return visit.page("overview.html", rows=rows, counts=counts, alerts=found, firing=sum(alerts.values()))


async def service(visit: Visit) -> Response:
    """One service and what can be done with it."""
    name = visit.named("service")
    shown, past, found = await asyncio.gather(
        visit.reads(api("services", name)), _past(visit, name), visit.desk.alerts.look()
    )
    one = shown[0]
    last = past[0] if past else None
    alerts = [alert for alert in found.alerts if alert.labels.get("service") == name]
    loud = sum(alert.fires and not alert.silenced for alert in alerts)
    told = sorted(views.told_of(one, last, loud), key=lambda each: views.LEVELS.index(each[0]))
    return visit.page(
        "service.html",
        service=one,
        told_of=told,
        stable_of=(one["policy"] or {}).get("stable", ""),
        lanes=views.lanes(one["policy"]),
        versions=views.by_version(one),
        rollout=last,
        past=past[1 : MOST_PAST + 1],
        alerts=alerts,
        further=visit.desk.links.service(name),
    )


async def _past(visit: Visit, service: str) -> list[Json]:
    try:
        found: list[Json] = (await visit.read(api("services", service, "rollouts")))["rollouts"]
    except Refusal as refusal:
        if refusal.status == GONE:
            return []
        raise
    return found


async def rollout(visit: Visit) -> Response:
    """A service's last rollout, as it goes."""
    name = visit.named("service")
    one = (await visit.reads(api("services", name, "rollout")))[0]
    checks = plot.checks(one["findings"])
    points = visit.desk.trail.of(name, one["number"])
    failed = (check.name.partition(":")[0] for check in checks if check.verdict == "fail")
    wanted = (visit.given("check"), *failed, *PLOTTED)
    chosen = next((name for name in wanted if name in points), "")
    return visit.page(
        "rollout.html",
        rollout=one,
        checks=[check for check in checks if ":" not in check.name or check.verdict in ("fail", "error")],
        quiet=[check for check in checks if ":" in check.name and check.verdict not in ("fail", "error")],
        curve=plot.curve(points.get(chosen, ()), chosen),
        chosen=chosen,
        plotted=list(points),
        further=visit.desk.links.rollout(name, one["stable"], one["canary"]),
        now=time.time(),
    )


async def clients(visit: Visit) -> Response:
    """Every client."""
    found = (await visit.reads("/v1/clients"))[0]
    return visit.page("clients.html", clients=found["clients"], keys=found["keys"])


async def client(visit: Visit) -> Response:
    """One client, its limits and keys."""
    found = (await visit.reads(api("clients", visit.named("client"))))[0]
    order = {"good": 0}
    keys = sorted(found["keys"], key=lambda key: (order.get(key["state"], 1), -key["created"]))
    return visit.page("client.html", client=found["client"], keys=keys, found=found)


async def alerts(visit: Visit) -> Response:
    """What fires, and what is kept quiet."""
    _, found, (silences, unknown) = await asyncio.gather(visit.look(), visit.desk.alerts.look(), _silences(visit))
    return visit.page(
        "alerts.html",
        found=found,
        silences=silences,
        unknown=unknown,
        can_silence=visit.desk.alerts.can_silence,
        now=time.time(),
    )


async def _silences(visit: Visit) -> tuple[list[Json], str]:
    """Silences that are not over, and why they are not known."""
    if not visit.desk.alerts.can_silence:
        return [], ""
    try:
        return (await visit.read("/v1/silences"))["silences"], ""
    except Refusal as refusal:
        return [], refusal.detail


async def history(visit: Visit) -> Response:
    """The last changes."""
    _, shown = await asyncio.gather(visit.look(), _records(visit, "/v1/state/history", "revision", first=0))
    return visit.page("history.html", **shown)


async def audit(visit: Visit) -> Response:
    """The last changes and refusals, and whether the trail of them is whole."""
    _, shown, trail = await asyncio.gather(
        visit.look(), _records(visit, "/v1/audit", "number", first=1), visit.read("/v1/audit/verify")
    )
    return visit.page("audit.html", trail=trail, **shown)


async def _records(visit: Visit, path: str, number: str, *, first: int) -> Json:
    """A page of what is counted, the newest first, and what its links to the next need.

    Args:
        visit: Whose `before` says where to begin.
        path: Of the API.
        number: The field that counts.
        first: What it begins with.
    """
    before = visit.given("before")
    query = {"limit": str(MOST_RECORDS), **({"before": before} if before else {})}
    records = (await visit.read(path, query))["records"]
    last = records[-1][number] if len(records) == MOST_RECORDS else first
    return {"records": records, "older": last if last > first else 0, "before": before}


async def record(visit: Visit) -> Response:
    """One change: what it was, and what has become of it since."""
    number = visit.named("revision")
    one = (await visit.reads(api("state", "history", number)))[0]
    return visit.page("record.html", record=one)
