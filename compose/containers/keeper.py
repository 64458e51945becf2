"""Starts and stops instances as the control plane has decided, and restarts containers that live and fail.

It holds the engine's socket and nobody can ask it anything: it reads what is wanted from Consul (docs/contracts.md,
"Deployments", "Autoscaling"), does that and no more (`narrow`), and writes there how things are. While Consul, the
control plane or the engine is away, what is there stays.

``python -m compose.containers.keeper`` reads MCP_PROJECT, MCP_ENGINE_SOCKET, MCP_CONSUL_URL, MCP_CONSUL_CA_FILE,
MCP_CONSUL_TOKEN_FILE and MCP_RESTART_FAILING_S.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from compose.containers.failing import Failing
from compose.containers.narrow import Container, NarrowEngine, NotPossible
from compose.local import autoscaled
from compose.local.autoscaled import Numbers
from compose.local.consul_api import token_header
from compose.local.log import log
from compose.local.settings import SERVICES

__all__ = ["Keeper", "main", "more_and_fewer"]

DEPLOYMENTS = "tekup/state/deployments/"
REPORT = "tekup/state/keeper"
TURN_S = 1.0
TELL_EVERY_S = 10.0
TELL_TIMEOUT_S = 5.0
GRACE_S = 10
"""Whoever fails is not waited for longer."""


def more_and_fewer(
    containers: Sequence[Container], wanted: Numbers, leaving: frozenset[str]
) -> tuple[list[tuple[Container, str]], list[Container]]:
    """What has to be started and stopped. Pure.

    Nobody stops the last container of a service, whatever is wanted: that would be an outage.

    Args:
        containers: All of the project's.
        wanted: How many of each service and version.
        leaving: Identifiers of those that are being stopped.

    Returns:
        Each container to make another like, with the version; and those to stop.
    """
    more: list[tuple[Container, str]] = []
    fewer: list[Container] = []
    for (service, version), count in sorted(wanted.items()):
        all_of_it = [one for one in containers if one.service == service and one.id not in leaving]
        mine = [one for one in all_of_it if one.version == version]
        there = sorted((one for one in mine if one.there), key=lambda one: (one.state == "running", -one.number))
        if len(there) < count and all_of_it:
            like = min(all_of_it, key=lambda one: (not one.there, one.version != version, one.number))
            more += [(like, version)] * (count - len(there))
        fewer += [one for one in mine if not one.there]
        stay = sum(one.there for one in all_of_it if one not in there) - sum(one.service == service for one in fewer)
        spare = len(there) - max(count, 0 if stay > 0 or not there else 1)
        fewer += there[: max(0, spare)]
    return more, fewer


class Keeper:
    """Keeps the project's containers as they are wanted.

    Args:
        engine: Its few calls.
        http: Asks Consul.
        consul: Consul's URL.
        token: The file of a token.
        failing_s: How long a container may live and fail; 0: for ever.
    """

    def __init__(
        self, engine: NarrowEngine, http: httpx.AsyncClient, consul: str, token: Path, failing_s: float
    ) -> None:
        self._engine = engine
        self._http = http
        self._consul = consul
        self._token = token
        self._failing = Failing(failing_s)
        self._wanted: dict[str, Numbers] = {}
        self._wake = asyncio.Event()
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._problems: dict[str, str] = {}
        self._restarts: Counter[str] = Counter()
        self._told = (0.0, "")

    async def run(self) -> None:
        """Follow what is wanted and act, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for key in (autoscaled.KEY, DEPLOYMENTS):
                tasks.create_task(autoscaled.follow(self._http, self._consul, self._token, self._take(key), key))
            while True:
                try:
                    await self._turn(tasks)
                except NotPossible as error:
                    self._say("engine", str(error))
                    await self._tell({})
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), TURN_S)
                except TimeoutError:
                    continue

    def _take(self, key: str) -> Any:
        def take(numbers: Numbers) -> None:
            self._wanted[key] = numbers
            self._wake.set()

        return take

    @property
    def wanted(self) -> Numbers:
        """What is wanted now: of a version that is autoscaled and deployed, what the load asks for."""
        return {**self._wanted.get(DEPLOYMENTS, {}), **self._wanted.get(autoscaled.KEY, {})}

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        containers = await self._engine.containers()
        self._say("engine", "")
        self._leaving = {name: task for name, task in self._leaving.items() if not task.done()}
        more, fewer = more_and_fewer(containers, self.wanted, frozenset(self._leaving))
        for one in fewer:
            self._leaving[one.id] = tasks.create_task(self._stop(one))
        started: dict[str, str] = defaultdict(str)
        for like, version in more:
            what = f"{like.service} {version}"
            if started[what]:
                continue
            try:
                name = await self._engine.start_another(like, version, containers)
                log("started", container=name, version=version)
                containers = await self._engine.containers()
            except NotPossible as error:
                started[what] = str(error)
        for what in {*self._problems, *started} - {"engine"}:
            self._say(what, started[what])
        await self._restart(containers)
        await self._tell(_count(containers))

    async def _stop(self, one: Container) -> None:
        began_s = time.monotonic()
        try:
            await self._engine.stop(one)
            log("stopped", container=one.name, version=one.version, seconds=round(time.monotonic() - began_s, 1))
        except NotPossible as error:
            log("not stopped", container=one.name, problem=str(error))
        self._wake.set()

    async def _restart(self, containers: Sequence[Container]) -> None:
        passing = await self._passing()
        for one in self._failing.due(containers, passing, frozenset(self._leaving), time.monotonic()):
            log("restarted, alive and failing", container=one.name)
            try:
                await self._engine.restart(one, GRACE_S)
                self._restarts[one.kind.removeprefix("mcp-")] += 1
            except NotPossible as error:
                log("not restarted", container=one.name, problem=str(error))

    async def _passing(self) -> dict[str, bool]:
        """Whether the instance at each address passes its checks; empty where Consul does not tell."""
        found: dict[str, bool] = {}
        try:
            for service in SERVICES:
                answer = await self._http.get(
                    f"{self._consul}/v1/health/service/mcp-{service}",
                    headers=token_header(self._token),
                    timeout=TELL_TIMEOUT_S,
                )
                for node in answer.raise_for_status().json():
                    serves = node["Service"]["Meta"].get("state", "serving") == "serving"
                    well = all(check["Status"] == "passing" for check in node["Checks"])
                    found[node["Service"]["Address"]] = well or not serves
        except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
            return {}
        return found

    async def _tell(self, containers: Mapping[str, Mapping[str, int]]) -> None:
        problems = {what: why for what, why in self._problems.items() if why}
        report = {"containers": containers, "problems": problems, "restarts": self._restarts}
        said = json.dumps(report, sort_keys=True)
        if said == self._told[1] and time.monotonic() - self._told[0] < TELL_EVERY_S:
            return
        try:
            url, headers = f"{self._consul}/v1/kv/{REPORT}", token_header(self._token)
            answer = await self._http.put(
                url, content=json.dumps({"at": time.time(), **report}), headers=headers, timeout=TELL_TIMEOUT_S
            )
            answer.raise_for_status()
            self._told = (time.monotonic(), said)
            self._say("report", "")
        except (httpx.HTTPError, OSError) as error:
            self._say("report", str(error) or type(error).__name__)

    def _say(self, what: str, problem: str) -> None:
        if problem != self._problems.get(what, ""):
            log("not possible" if problem else "possible again", what=what, problem=problem)
        self._problems[what] = problem


def _count(containers: Sequence[Container]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in containers:
        if one.service and one.version:
            counts[one.service][one.version] += 1
    return counts


async def keep(environment: Mapping[str, str]) -> None:
    """Keep what an environment's variables name, until cancelled."""
    ca, url = environment.get("MCP_CONSUL_CA_FILE", ""), environment["MCP_CONSUL_URL"].rstrip("/")
    trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca) if url.startswith("https") else True
    socket = httpx.AsyncHTTPTransport(uds=environment.get("MCP_ENGINE_SOCKET", "/run/engine.sock"))
    failing_s = float(environment.get("MCP_RESTART_FAILING_S") or 60)
    async with httpx.AsyncClient(transport=socket) as engine, httpx.AsyncClient(verify=trust, trust_env=False) as http:
        narrow = NarrowEngine(engine, environment["MCP_PROJECT"])
        await Keeper(narrow, http, url, Path(environment["MCP_CONSUL_TOKEN_FILE"]), failing_s).run()


def main() -> None:
    """Serve until a signal ends this process."""
    asyncio.run(keep(os.environ))


if __name__ == "__main__":
    main()
