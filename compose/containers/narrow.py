"""The engine, narrowed to what starting and stopping instances of services takes: nothing else can be asked through it.

It lists the project's containers, makes one more like those of a service that are there, of another version of that
service's image at most, starts, restarts, stops and removes them. It pulls nothing, builds nothing, runs no command.

Source: Docker Engine API v1.41, `/containers/json`, `/containers/create`, `/containers/{id}/start|stop|restart`,
`/images/{name}/json`, `/networks/{id}/connect`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from compose.containers.engine import API, PROJECT, SERVICE, About
from compose.images.table import IMAGES
from compose.local.settings import SERVICES

__all__ = ["Container", "NarrowEngine", "NotPossible", "body_of_copy"]

NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
IMAGE = "com.docker.compose.image"
REPLACES = "com.docker.compose.replace"
VERSION = "org.opencontainers.image.version"
PREFIX = "mcp-"
ANSWER_S = 20.0
STOP_S = 120.0
"""More than any container's own grace."""
FROM_IMAGE = ("Cmd", "Entrypoint", "Healthcheck", "WorkingDir", "User", "StopSignal", "ExposedPorts", "Volumes")
_VERSION = re.compile(r"[0-9A-Za-z.]{1,32}")


class NotPossible(Exception):
    """The engine could not do it; says why, for people."""


@dataclass(frozen=True)
class Container:
    """One of the project's containers.

    Attributes:
        id: Its identifier.
        name: Its name.
        kind: Its service in the Compose file.
        version: Of its image; "" where that says none.
        number: Its number among those of its kind.
        state: `created`, `running`, `restarting`, `exited` …
        healthy: Whether its own health check says that it is well.
        unhealthy: Whether that says that it is not; neither while it begins, and where it has none.
        addresses: In each of its networks.
    """

    id: str
    name: str
    kind: str
    version: str
    number: int
    state: str
    healthy: bool
    unhealthy: bool
    addresses: frozenset[str]

    @property
    def service(self) -> str:
        """Which of the platform's services it is an instance of; "" for none."""
        name = self.kind.removeprefix(PREFIX)
        return name if self.kind.startswith(PREFIX) and name in SERVICES else ""

    @property
    def there(self) -> bool:
        """Whether it runs or will: what has ended, and is not started again by the engine, is not there."""
        return self.state in ("created", "running", "restarting", "paused")


class NarrowEngine:
    """The engine's few calls.

    Args:
        http: Speaks to its socket.
        project: The Compose project; no container of another is ever touched.
    """

    def __init__(self, http: httpx.AsyncClient, project: str) -> None:
        self._http = http
        self._project = project

    async def containers(self) -> list[Container]:
        """All of the project's, those that have ended among them, but for one-off ones.

        Raises:
            NotPossible: The engine does not answer.
        """
        filters = json.dumps({"label": [f"{PROJECT}={self._project}", f"{ONE_OFF}=False"]})
        found = await self._ask("GET", "/containers/json", params={"all": "true", "filters": filters})
        return [_container(one) for one in found]

    async def start_another(self, like: Container, version: str, others: Iterable[Container]) -> str:
        """Start one more instance, as one that is there was made, of a version.

        Args:
            like: The one that is there.
            version: Whose image is taken; it has to be here.
            others: All of the project's.

        Returns:
            Its name.

        Raises:
            NotPossible: There is no such image, or the engine refuses.
        """
        if not like.service or not _VERSION.fullmatch(version):
            raise NotPossible(f"{like.kind} {version!r} is no version of a service")
        image = f"{IMAGES[like.service].repository}:{version}"
        about = await self._ask("GET", f"/containers/{like.id}/json")
        if about["Config"]["Labels"].get(PROJECT) != self._project:
            raise NotPossible(f"{like.name} is none of {self._project}'s")
        before = await self._ask("GET", f"/images/{about['Image']}/json")
        after = await self._image(image, version)
        taken = {one.number for one in others if one.kind == like.kind}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        name = f"{self._project}-{like.kind}-{number}"
        body = body_of_copy(about, before, {**after, "Name": image}, name, number)
        networks: dict[str, Any] = body.pop("Networks")
        first = next(iter(networks))
        body["NetworkingConfig"] = {"EndpointsConfig": {first: networks.pop(first)}}
        made = await self._ask("POST", "/containers/create", params={"name": name}, json=body)
        try:
            for network, endpoint in networks.items():
                joined = {"Container": made["Id"], "EndpointConfig": endpoint}
                await self._ask("POST", f"/networks/{network}/connect", json=joined)
            await self._ask("POST", f"/containers/{made['Id']}/start")
        except NotPossible:
            await self._ask("DELETE", f"/containers/{made['Id']}", params={"force": "true"})
            raise
        return name

    async def _image(self, image: str, version: str) -> About:
        try:
            found: About = await self._ask("GET", f"/images/{image}/json")
        except NotPossible as error:
            raise NotPossible(f"{error}; `make images` builds it, or pull it on the engine's machine") from error
        says = (found["Config"].get("Labels") or {}).get(VERSION, "")
        if says != version:
            raise NotPossible(f"{image} says that it is {says or 'no version'}; tag the image by its own version")
        return found

    async def stop(self, one: Container) -> None:
        """Stop a container as it wishes to be stopped, so an instance drains, and remove it.

        Raises:
            NotPossible: The engine refuses; one that is gone is no reason to.
        """
        await self._ask("POST", f"/containers/{one.id}/stop", gone_is_well=True, timeout=STOP_S)
        await self._ask("DELETE", f"/containers/{one.id}", gone_is_well=True, params={"force": "true"})

    async def restart(self, one: Container, grace_s: int) -> None:
        """Restart a container, killing what has not ended after a grace.

        Raises:
            NotPossible: The engine refuses.
        """
        await self._ask("POST", f"/containers/{one.id}/restart", params={"t": str(grace_s)}, timeout=STOP_S)

    async def _ask(self, method: str, path: str, *, gone_is_well: bool = False, **given: Any) -> Any:
        try:
            answer = await self._http.request(method, f"http://engine{API}{path}", **{"timeout": ANSWER_S, **given})
        except (httpx.HTTPError, OSError) as error:
            raise NotPossible(f"the engine does not answer: {str(error) or type(error).__name__}") from error
        if answer.status_code == httpx.codes.NOT_FOUND and gone_is_well:
            return {}
        if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
            return answer.json() if answer.content else {}
        raise NotPossible(_message(answer))


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"the engine answered {answer.status_code}"


def _container(about: About) -> Container:
    labels: Mapping[str, str] = about["Labels"] or {}
    networks: Mapping[str, About] = (about.get("NetworkSettings") or {}).get("Networks") or {}
    number = labels.get(NUMBER, "0")
    return Container(
        id=about["Id"],
        name=about["Names"][0].lstrip("/") if about["Names"] else about["Id"][:12],
        kind=labels.get(SERVICE, ""),
        version=labels.get(VERSION, ""),
        number=int(number) if number.isdecimal() else 0,
        state=about["State"],
        healthy="(healthy)" in about["Status"],
        unhealthy="(unhealthy)" in about["Status"],
        addresses=frozenset(filter(None, (one.get("IPAddress") for one in networks.values()))),
    )


def body_of_copy(about: About, before: About, after: About, name: str, number: int) -> dict[str, Any]:
    """What makes a container as another was made, of another image: what came of its image comes of the new one. Pure.

    Args:
        about: What the engine says of the container that is there.
        before: Of its image.
        after: Of the new image, with the `Name` to run it by.
        name: The new container's.
        number: Its number among those of its kind.

    Returns:
        The body for `/containers/create`, with `Networks` to be put where they belong.
    """
    old, config = before["Config"], dict(about["Config"])
    for key in FROM_IMAGE:
        if config.get(key) == old.get(key):
            config.pop(key, None)
    config.pop("Hostname", None)
    config["Env"] = [one for one in config.get("Env") or () if one not in (old.get("Env") or ())]
    own = old.get("Labels") or {}
    labels = {key: value for key, value in config["Labels"].items() if own.get(key) != value and key != REPLACES}
    kind = labels[SERVICE]
    labels |= {NUMBER: str(number), IMAGE: after["Id"]}
    networks = {network: {"Aliases": [name, kind]} for network in about["NetworkSettings"]["Networks"]}
    return {**config, "Labels": labels, "Image": after["Name"], "HostConfig": about["HostConfig"], "Networks": networks}
