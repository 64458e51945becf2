"""The routes of deployments: a version of a service, as containers beside those that are there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from control_plane.api.bodies import Body, DryRun, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.autoscale import MOST_INSTANCES
from control_plane.delivery import Seconds, Step, Strategy
from control_plane.deployer import Deployer
from control_plane.deploying import Deployment, Stage, Wish
from control_plane.model import Version
from control_plane.roles import Role


class DeploymentWish(Body):
    """A version of a service to deploy; what is left out is as the service's delivery says."""

    version: Annotated[Version, Field(description="The version that should be there.")]
    instances: Annotated[
        int | None, Field(ge=1, le=MOST_INSTANCES, description="How many; null: as many as the stable version has.")
    ] = None
    strategy: Strategy | None = None
    steps: tuple[Step, ...] | None = None
    keep_warm_s: Seconds | None = None
    reason: Reason
    dry_run: DryRun = False

    def changes(self) -> dict[str, object]:
        """What is otherwise than the service's delivery says."""
        return self.model_dump(mode="json", include={"strategy", "steps", "keep_warm_s"}, exclude_none=True)


class DeploymentShown(Body):
    """A deployment, and where it is."""

    service: str
    version: str
    instances: Annotated[int, Field(description="How many of it there should be.")]
    stage: Stage
    said: Annotated[str, Field(description="Why it is there, in one sentence.")]
    author: str
    reason: str
    began: Annotated[float, Field(description="In seconds since the epoch.")]
    since: Annotated[float, Field(description="When it came to its stage.")]
    ended: bool

    @classmethod
    def of(cls, deployment: Deployment) -> DeploymentShown:
        """From what the control plane says."""
        fields = deployment.model_dump(include=set(cls.model_fields))
        return cls(**fields, ended=deployment.stage.ended)


async def deployment(ask: Asked) -> DeploymentShown:
    """A service's last deployment."""
    return DeploymentShown.of(await Deployer(ask.engine).last(ask.path["service"]))


async def deploy(ask: Asked) -> DeploymentShown:
    """Deploy a version of a service, or go back to the one that was."""
    body = ask.read(DeploymentWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    asked = Wish(ask.path["service"], body.version, body.instances, body.changes(), wish.author, wish.reason)
    return DeploymentShown.of(await Deployer(ask.engine).ask(asked, wish))


_AT = "/v1/services/{service}/deployment"
DEPLOYMENT_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", _AT, "Last deployment of a service", deployment, DeploymentShown),
    ApiRoute("POST", _AT, "Deploy a version", deploy, DeploymentShown, DeploymentWish, needs=Role.OPERATOR),
)
