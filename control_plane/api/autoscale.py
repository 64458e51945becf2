"""The routes of autoscaling."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from control_plane.api.bodies import Body, Done, DryRun, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.autoscale import Autoscale, Scaled
from control_plane.errors import NotFound, Refused
from control_plane.scaling import Scaling


class AutoscaleShown(Body):
    """How a service's instances follow its load, and what that comes to."""

    policy: Autoscale
    versions: Annotated[
        tuple[Scaled, ...], Field(description="Each version that has a share; none until the leader has looked.")
    ] = ()
    at: Annotated[float, Field(description="When that was last written, in seconds since the epoch.")] = 0

    @classmethod
    def of(cls, policy: Autoscale, scaling: Scaling | None) -> AutoscaleShown:
        """From what the control plane says."""
        return cls(policy=policy, versions=scaling.versions if scaling else (), at=scaling.at if scaling else 0)


class Autoscaled(Body):
    """All services that are autoscaled."""

    services: tuple[AutoscaleShown, ...]


class AutoscaleWish(Body):
    """How a service's instances are to follow its load."""

    policy: Annotated[dict[str, Any], Field(description="The fields of GET /v1/state/schema, kind Autoscale.")]
    reason: Reason
    expected_revision: int | None = None
    dry_run: DryRun = False

    def of(self, service: str) -> Autoscale:
        """The policy.

        Raises:
            Refused: It makes no sense, or is another's.
        """
        if self.policy.get("service", service) != service:
            raise Refused(f"the policy is for {self.policy['service']!r}, not for {service}")
        return Autoscale.parse(json.dumps({**self.policy, "service": service}), f"autoscaling of {service}")


async def autoscaled(ask: Asked) -> Autoscaled:
    """Every service that is autoscaled."""
    decided = await ask.plane.scaling.decided()
    policies = await ask.plane.scaling.policies()
    return Autoscaled(services=tuple(AutoscaleShown.of(one, decided.get(name)) for name, one in policies.items()))


async def autoscale(ask: Asked) -> AutoscaleShown:
    """One service."""
    name = ask.path["service"]
    policy = (await ask.plane.scaling.policies()).get(name)
    if policy is None:
        raise NotFound(f"{name} is not autoscaled; `tekup autoscale set {name}` begins")
    return AutoscaleShown.of(policy, (await ask.plane.scaling.decided()).get(name))


async def set_autoscale(ask: Asked) -> Done:
    """Let a service's instances follow its load."""
    body = ask.read(AutoscaleWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return Done.of(await ask.plane.scaling.set(body.of(ask.path["service"]), wish))


async def autoscale_off(ask: Asked) -> Done:
    """Leave a service's instances as many as they are."""
    return Done.of(await ask.plane.scaling.off(ask.path["service"], ask.wish()))


_AT = "/v1/services/{service}/autoscale"
AUTOSCALE_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/autoscale", "All services that are autoscaled", autoscaled, Autoscaled),
    ApiRoute("GET", _AT, "How a service is autoscaled, and why so", autoscale, AutoscaleShown),
    ApiRoute("PUT", _AT, "Autoscale a service", set_autoscale, Done, AutoscaleWish),
    ApiRoute("DELETE", _AT, "Stop autoscaling a service", autoscale_off, Done),
)
