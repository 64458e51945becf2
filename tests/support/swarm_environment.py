"""Production on the machines of a Swarm, with what tests ask of it: a gate's address on each, a key, `tekup`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.containers.places import PAGES_URL
from compose.images.tested import note
from compose.local.first_call import first_calls
from compose.local.progress import Silent
from compose.local.served import FirstCall, Target
from compose.local.settings import SERVICES
from compose.local.trust import Gateway
from tests.support.command_line import run_tekup
from tests.support.engine_install import NoEngine
from tests.support.gate import wait_until
from tests.support.machines import Machine, emptied

DEPLOY_S = 900.0
ASK_S = 60.0
PORT = 3000
CALLED = ("filesystem", "search", "browser")
WITHOUT = "first-call,grafana,prometheus,rule-keeper,alertmanager,loki,jaeger,collector"
"""What is not needed to serve calls, and would take the machines' two processors."""


def joined(machines: Sequence[Machine]) -> None:
    """Make machines the managers of one Swarm, unless they are."""
    first, *others = machines
    form = ["info", "--format", "{{.Swarm.LocalNodeState}}"]
    if first.engine.docker(*form) == "inactive":
        first.engine.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.engine.docker("swarm", "join-token", "--quiet", "manager")
    for other in others:
        if other.engine.docker(*form) == "inactive":
            other.engine.docker(
                "swarm", "join", "--advertise-addr", other.address, "--token", token, f"{first.address}:2377"
            )


@dataclass
class SwarmEnvironment:
    """One of `compose/docker-compose.swarm.yml`.

    Args:
        machines: In the order of their names.
        directory: For files.
        project: Its name.
        settings: Variables for its Compose file.
    """

    machines: Sequence[Machine]
    directory: Path
    project: str
    settings: dict[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def ca(self) -> Path:
        """Whom clients have to trust."""
        return self.directory / "ca.pem"

    def deploy(self, record: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`tekup deploy swarm` on the first machine that is on; never raises for its exit code."""
        own = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_PROFILES": "proof",
            "MCP_DEPLOY_WITHOUT": WITHOUT,
            "MCP_BROWSER_ALLOW_HOSTS": "pages:8080",
            "MCP_BROWSER_REPLICAS": "2",
            "MCP_NETWORK_NAME": f"{self.project}-network",
            **self._any().engine.env,
            **self.settings,
        }
        command = ("deploy", "swarm", "--reason", "a test", "--timeout", str(DEPLOY_S), "--tested", str(record))
        return run_tekup(*command, *arguments, folder=self.directory, timeout_s=DEPLOY_S + 300, own=own)

    def start(self, ids: Mapping[str, str]) -> str:
        """Deploy it, let every service in, and make a key; what the command said.

        Args:
            ids: Of our images, by name.
        """
        record = self.directory / "tested.json"
        note(dict(ids), record)
        done = self.deploy(record)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.told_of_all()}"
        self.ca.write_text(self.inside(self.machines[0], "certificate", "cat", "/run/tekup/ca.pem"))
        self._admit()
        self.tekup("clients", "add", "load", "--reason", "a test")
        self.key = self.tekup("keys", "create", "load", "--reason", "a test").splitlines()[0]
        return done.stdout

    def _any(self) -> Machine:
        return next(machine for machine in self.machines if machine.on)

    def _admit(self) -> None:
        def begun() -> bool:
            with contextlib.suppress(NoEngine):
                self.tekup("state", "init", "--reason", "a new environment")
                return True
            return False

        versions: dict[str, str] = {}

        def registered() -> bool:
            with contextlib.suppress(NoEngine):
                known = self.tekup_json("traffic", "show")["services"]
                versions.update({one["name"]: one["instances"][0]["version"] for one in known if one["instances"]})
            return set(versions) == set(SERVICES)

        wait_until(begun, "a first state, once a gate has reported", 180)
        wait_until(registered, "every service to have registered", 180)
        for name, version in versions.items():
            self.tekup("traffic", "set", name, f"{version}=100", "--reason", "first release")

    def containers(self, machine: Machine, service: str) -> list[str]:
        """Ids of a service's containers that run on a machine."""
        mark = f"label=com.docker.swarm.service.name={self.project}_{service}"
        return machine.engine.docker("ps", "--quiet", "--filter", mark).split()

    def inside(self, machine: Machine, service: str, *command: str) -> str:
        """What a command prints in a service's container on a machine.

        Raises:
            NoEngine: It failed, or there is no such container.
        """
        found = self.containers(machine, service)
        if not found:
            raise NoEngine(f"no container of {service} on {machine.name}")
        return machine.engine.docker("exec", found[0], *command, timeout_s=ASK_S)

    def tekup(self, *arguments: str, on: Machine | None = None) -> str:
        """`tekup`, in the container of the control plane on a machine, by default the first that is on.

        Raises:
            NoEngine: It failed.
        """
        machine = on or self._any()
        number = self.machines.index(machine) + 1
        service = "control-plane" if number == 1 else f"control-plane-{number}"
        own = ["env", "MCP_CONTROL_PLANE_URL=http://127.0.0.1:3010", "/opt/tekup/bin/python", "-m", "control_plane.cli"]
        return self.inside(machine, service, *own, *arguments)

    def tekup_json(self, *arguments: str, on: Machine | None = None) -> Any:
        """The same with `--json`, parsed."""
        return json.loads(self.tekup(*arguments, "--json", on=on))

    def gate(self, machine: Machine) -> Gateway:
        """A machine's gate, as a client sees it."""
        return Gateway(f"{machine.address}:{PORT}", "localhost", self.ca)

    def first_calls(self, machine: Machine) -> list[FirstCall]:
        """A tool of each service, through a machine's gate."""
        target = Target(self.gate(machine), self.key, Path("/workspace"), PAGES_URL)
        return asyncio.run(first_calls(target, CALLED, Silent()))

    def trust(self) -> ssl.SSLContext:
        """For clients of its gates."""
        return ssl.create_default_context(cafile=str(self.ca))

    def told_of_all(self) -> str:
        """How many of each service run, and what those say that do not."""
        engine = self._any().engine
        listed = engine.docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}").splitlines()
        wrong = [line.split()[0] for line in listed if len(set(line.split()[1].split("/"))) > 1]
        return "\n".join([*listed, *(engine.docker("service", "ps", "--no-trunc", name) for name in wrong)])

    def stop(self) -> None:
        """Take it away, volumes too."""
        with contextlib.suppress(NoEngine):
            self._any().engine.docker("stack", "rm", self.project)
        for machine in self.machines:
            if not machine.on:
                machine.start()
            self._cleared(machine)

    def _cleared(self, machine: Machine) -> None:
        mark = f"label=com.docker.stack.namespace={self.project}"
        wait_until(
            lambda: not machine.engine.docker("ps", "--all", "--quiet", "--filter", mark), "containers to go", 120
        )
        emptied(machine.engine)


@contextlib.contextmanager
def swarm_environment(
    machines: Sequence[Machine], directory: Path, project: str, ids: Mapping[str, str]
) -> Iterator[SwarmEnvironment]:
    """One that is up for as long as the block runs.

    Args:
        machines: Whose Swarm.
        directory: For files.
        project: Its name.
        ids: Of our images, by name.
    """
    joined(machines)
    made = SwarmEnvironment(machines, directory, project)
    try:
        made.start(ids)
        yield made
    finally:
        made.stop()
