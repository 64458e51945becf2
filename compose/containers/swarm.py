"""Deploys production on three machines: the managers of one Swarm, whose engine this is one of.

What is secret is made once, on this machine, and reaches the others as a secret of Swarm's: `setup` runs on each and
gives each container its own, as on one machine.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compose.local.errors import StepFailed, WaitedTooLong
from compose.local.files import repository
from compose.local.progress import Reporter
from compose.local.settings import CONTROL_PLANE

from .command import COMMAND_S, Compose, read, said
from .settings import MACHINES
from .stack import stack, ulimits

KIND = "swarm"
SETUP = "setup"
ACCESS = "consul-access"
MOST_BYTES = 500_000
"""Of one secret (docs.docker.com, "Manage sensitive data with Docker secrets")."""
AGAIN_S = 1.0


@dataclass(frozen=True)
class Swarm:
    """An environment on the machines of a Swarm.

    Args:
        compose: Its Compose file, with the machines in it.
        project: Its name.
        machines: Host names, in order.
    """

    compose: Compose
    project: str
    machines: tuple[str, ...]

    def up(self, deadline: float, report: Reporter, without: frozenset[str], beside: Mapping[str, str]) -> None:
        """Bring it to what the Compose file says, and wait until all of it runs and is healthy.

        Args:
            deadline: Until when, monotonic.
            report: Told what is waited for.
            without: Services to leave out.
            beside: Further versions of services.

        Raises:
            LocalError: Something failed, or took too long.
        """
        config = json.loads(self.compose.run("config", "--format", "json"))
        self._prepare(config, deadline, report)
        wanted = [name for name in config["services"] if name not in {*without, SETUP}]
        first = [name for name in wanted if not waits_for_access(config["services"], name)]
        self._deploy(self.project, stack(config, only=first))
        self._wait(self.project, first, deadline, report)
        made = stack(config, only=wanted, beside=beside)
        self._deploy(self.project, made, "--prune")
        self._wait(self.project, list(made["services"]), deadline, report)

    def _prepare(self, config: Mapping[str, Any], deadline: float, report: Reporter) -> None:
        """Have `setup` run on each machine, from what it makes on this one. A stack of its own: Swarm would run a job
        again at each look at its stack."""
        _setup(config, SETUP)
        packed = _setup(config, "hand-over")
        if len(packed) > MOST_BYTES:
            raise StepFailed(f"what `setup` made is {len(packed)} bytes, more than the {MOST_BYTES} of a secret")
        own = f"{self.project}-{SETUP}"
        self._away(own)
        try:
            said(["docker", "secret", "create", own, "-"], given=packed)
            self._deploy(own, stack(config, only=[SETUP], keep=own))
            self._wait(own, [SETUP], deadline, report)
        finally:
            self._away(own)

    def _away(self, own: str) -> None:
        if self.state(own):
            said(["docker", "stack", "rm", "--detach=false", own])
        if own in said(["docker", "secret", "ls", "--format", "{{.Name}}"]).split():
            said(["docker", "secret", "rm", own])

    def running(self) -> int:
        """How many containers run."""
        return sum(int(how.split("/")[0]) for how in self.state().values())

    def note(self, what: str, reason: str, timeout_s: float) -> str:
        """Have something written where every change is written, by a control plane on this machine; what came of it."""
        form = ["--filter", f"name=^{self.project}_{CONTROL_PLANE}", "--format", "{{.ID}}"]
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                here = said(["docker", "ps", *form]).split()
                if not here:
                    return "not in the history: no control plane runs on this machine"
                said(
                    ["docker", "exec", here[0], "/opt/tekup/bin/python", "-m", "compose.containers.note", what, reason]
                )
            except StepFailed as error:
                if time.monotonic() > deadline:
                    return f"not in the history: {error}"
                time.sleep(AGAIN_S)
            else:
                return "in the history of the control plane"

    def _deploy(self, name: str, made: Mapping[str, object], *arguments: str) -> None:
        # nothing is pulled: what runs is what was tested, and each machine has it
        command = ["docker", "stack", "deploy", "--detach=true", "--resolve-image", "never", *arguments]
        said([*command, "--compose-file", "-", name], given=json.dumps(made).encode(), timeout_s=COMMAND_S)

    def _wait(self, of: str, wanted: list[str], deadline: float, report: Reporter) -> None:
        while waits := [f"{name} ({how})" for name, how in self.state(of).items() if name in wanted and not well(how)]:
            if time.monotonic() > deadline:
                raise WaitedTooLong(
                    f"not healthy in time: {', '.join(waits)}; see `docker service ps --no-trunc {of}_NAME`"
                )
            report.update("deploy", f"waiting for {', '.join(waits)}")
            time.sleep(AGAIN_S)
        report.over("deploy")

    def state(self, of: str = "") -> dict[str, str]:
        """How many of each service of a stack run, and how many should: `2/3`; of a job `0/3 (3/3 completed)`."""
        of = of or self.project
        form = ["--filter", f"label=com.docker.stack.namespace={of}", "--format", "{{.Name}} {{.Replicas}}"]
        lines = (line.split(" ", 1) for line in said(["docker", "service", "ls", *form]).splitlines())
        return {name.removeprefix(f"{of}_"): how for name, how in lines}


def _setup(config: Mapping[str, Any], step: str) -> bytes:
    """What a step of `setup` prints on this machine. Compose is told of nothing else: it would make every network."""
    one = config["services"]["setup"]
    alone = {**config, "services": {"setup": {**one, "ulimits": ulimits(one)}}, "networks": {}}
    command = ["docker", "compose", "--ansi", "never", "--project-directory", str(repository() / "compose"), "-f", "-"]
    return read(
        [*command, "run", "--rm", "-T", "--interactive=false", "setup", "compose.containers", step],
        given=json.dumps(alone).encode(),
        timeout_s=COMMAND_S,
    )


def waits_for_access(services: Mapping[str, Any], name: str) -> bool:
    """Whether a service comes after Consul and whoever makes it know its tokens, as Compose has it."""
    after = services[name].get("depends_on", {})
    return ACCESS in after or any(waits_for_access(services, other) for other in after if other in services)


def well(how: str) -> bool:
    """Whether as many run, or have ended well, as should."""
    of_job = re.search(r"\((\d+/\d+) completed\)", how)
    counted = of_job[1] if of_job else how.split(" ", maxsplit=1)[0]
    have, _, wanted = counted.partition("/")
    return have == wanted


def swarm(version: str) -> Swarm:
    """The environment, as the shell's variables have it.

    Raises:
        StepFailed: This engine is none of a Swarm's managers, or there are not three.
    """
    form = ["--filter", "role=manager", "--format", "{{.Hostname}}"]
    found = sorted(said(["docker", "node", "ls", *form]).split())
    machines = tuple(filter(None, os.environ.get("MCP_MACHINES", "").split(","))) or tuple(found)
    if len(machines) != MACHINES or not set(machines) <= set(found):
        raise StepFailed(
            f"an environment on several machines has {MACHINES}, all managers of one Swarm; there are "
            f"{', '.join(found)}: `docker swarm join`, `docker node promote`, or say which with MCP_MACHINES"
        )
    env = {
        "MCP_MACHINES": ",".join(machines),
        **{f"MCP_MACHINE_{number}": machine for number, machine in enumerate(machines, 1)},
    }
    compose = Compose(KIND, version, env)
    return Swarm(compose, json.loads(compose.run("config", "--format", "json"))["name"], machines)
