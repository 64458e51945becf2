"""One table of every route; Starlette's routes and the OpenAPI document both come from it."""

from __future__ import annotations

from control_plane.api import bodies
from control_plane.api.audit import AUDIT_ROUTES
from control_plane.api.clients import CLIENT_ROUTES
from control_plane.api.operators import OPERATOR_ROUTES
from control_plane.api.receivers import RECEIVER_ROUTES
from control_plane.api.route import ApiRoute, Asked
from control_plane.api.rules import RULE_ROUTES
from control_plane.api.state import STATE_ROUTES
from control_plane.errors import NotFound, NotInitialised, TekupError
from control_plane.loop import ControlPlane
from control_plane.model import ServicePolicy, Table
from control_plane.roles import Role
from control_plane.rollout import Phase
from control_plane.scaling import unlike


async def status(ask: Asked) -> bodies.Status:
    """Leader, revision, gates."""
    gates = tuple(
        bodies.GateShown(
            id=gate.report.id,
            live=gate.live,
            epoch=gate.report.epoch,
            revision=gate.report.number,
            problems=gate.report.problems,
        )
        for gate in ask.plane.gates.all.values()
    )
    revision, message = None, ask.plane.leadership.problem or ask.plane.leadership.elsewhere
    try:
        revision = (await ask.plane.page()).revision
    except NotInitialised as error:
        message = message or str(error)
    cast = await ask.plane.replicas.cast()
    leader = cast.leader.replica if cast.leader else ""
    return bodies.Status(
        replica=ask.plane.leadership.me.replica,
        leading=ask.plane.leadership.leading,
        leader=leader,
        replicas=tuple(
            bodies.ReplicaShown(id=one.replica, url=one.url, leading=one.replica == leader) for one in cast.replicas
        ),
        initialised=revision is not None,
        epoch=revision.epoch if revision else 0,
        revision=revision.number if revision else 0,
        gates=gates,
        message=message,
        mirror=mirror.problem if (mirror := await ask.plane.mirror()) else "",
        waiting=await _waiting(ask),
    )


async def _waiting(ask: Asked) -> tuple[str, ...]:
    """Rollouts that wait for a person, and services that have others than the instances they should have; none where
    they cannot be read, which other routes tell."""
    try:
        held = (await ask.engine.shelf.all()).values()
        scalings = (await ask.plane.scaling.decided()).values()
    except TekupError:
        return ()
    rollouts = tuple(
        f"rollout {one.rollout.title}: {one.rollout.said}"
        for one in held
        if one.rollout.phase in (Phase.ASKING, Phase.PAUSED)
    )
    return rollouts + unlike(scalings)


async def init(ask: Asked) -> bodies.InitDone:
    """Begin with an empty policy."""
    body = ask.read(bodies.InitWish)
    revision, began = await ask.plane.init(ask.wish(body.reason), force=body.force)
    return bodies.InitDone(initialised=began, epoch=revision.epoch, revision=revision.number)


async def repair(ask: Asked) -> bodies.Done:
    """Accept what lies in Consul: tables that another hand has changed, or an older state that was restored."""
    return bodies.Done.of(await ask.plane.repair(ask.wish(ask.read(bodies.RepairWish).reason)))


async def services(ask: Asked) -> bodies.Services:
    """Every service that is registered or has a policy."""
    page = await ask.plane.page()
    decided = page.all(Table.SERVICES, ServicePolicy)
    names = sorted(decided.keys() | {one.service for one in ask.plane.instances()})
    return bodies.Services(
        revision=page.revision.number,
        services=tuple(_service(ask.plane, name, decided.get(name)) for name in names),
    )


async def service(ask: Asked) -> bodies.ServiceShown:
    """One service."""
    name = ask.path["service"]
    shown = _service(ask.plane, name, (await ask.plane.page()).find(Table.SERVICES, name, ServicePolicy))
    if shown.policy is None and not shown.instances:
        raise NotFound(f"service {name} does not exist")
    return shown


def _service(plane: ControlPlane, name: str, decided: ServicePolicy | None) -> bodies.ServiceShown:
    instances = tuple(
        bodies.InstanceShown(
            id=one.id,
            version=one.version,
            address=one.url,
            state=one.state.value,
            passing=one.passing,
            probe=plane.probing.state(name, one.version, one.id).shown if plane.probing else "unknown",
        )
        for one in plane.instances()
        if one.service == name
    )
    return bodies.ServiceShown(name=name, policy=decided, instances=instances)


async def set_traffic(ask: Asked) -> bodies.Done:
    """Shift a service's traffic."""
    body = ask.read(bodies.TrafficWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return bodies.Done.of(await ask.plane.set_traffic(ask.path["service"], body.weights_pct, wish))


async def forget_service(ask: Asked) -> bodies.Done:
    """Take a service that is gone for good out of the policy."""
    return bodies.Done.of(await ask.plane.forget_service(ask.path["service"], ask.wish()))


async def forget_gate(ask: Asked) -> bodies.Status:
    """Stop waiting for a gate that is gone for good; shows the gates that are left."""
    await ask.plane.forget_gate(ask.path["gate"], ask.wish())
    return await status(ask)


SERVICE = (Table.SERVICES, "service")
ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/status", "Leader, revision, gates", status, bodies.Status),
    ApiRoute("POST", "/v1/init", "Begin with an empty policy", init, bodies.InitDone, bodies.InitWish),
    ApiRoute("POST", "/v1/repair", "Accept a changed store", repair, bodies.Done, bodies.RepairWish),
    ApiRoute("GET", "/v1/services", "All services", services, bodies.Services),
    ApiRoute("GET", "/v1/services/{service}", "One service", service, bodies.ServiceShown, about=SERVICE),
    ApiRoute(
        "PUT",
        "/v1/services/{service}/traffic",
        "Shift traffic",
        set_traffic,
        bodies.Done,
        bodies.TrafficWish,
        needs=Role.OPERATOR,
        about=SERVICE,
    ),
    ApiRoute(
        "DELETE", "/v1/services/{service}", "Forget a service that is gone", forget_service, bodies.Done, about=SERVICE
    ),
    ApiRoute("DELETE", "/v1/gates/{gate}", "Forget a gate that is gone", forget_gate, bodies.Status, own=True),
    *CLIENT_ROUTES,
    *STATE_ROUTES,
    *OPERATOR_ROUTES,
    *AUDIT_ROUTES,
    *RULE_ROUTES,
    *RECEIVER_ROUTES,
)
