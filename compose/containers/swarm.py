"""Deploys production on three machines: the managers of one Swarm, whose engine this is one of.

What is secret is made once, on this machine, and reaches the others as a secret of Swarm's: `setup` runs on each and
gives each container its own, as on one machine.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from compose.local.errors import StepFailed, WaitedTooLong
from compose.local.progress import Reporter
from compose.local.settings import CONTROL_PLANE

from .command import COMMAND_S, Compose, said
from .settings import MACHINES
from .stack import KEEP, stack

KIND = "swarm"
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
        self.compose.run("run", "--rm", "--no-deps", "-T", "setup", "compose.containers", "setup")
        keep = self._keep()
        config = json.loads(self.compose.run("config", "--format", "json"))
        wanted = [name for name in config["services"] if name not in without]
        self._deploy(stack(config, keep, ["setup"]))
        self._wait(["setup"], deadline, report)
        made = stack(config, keep, wanted, beside)
        self._deploy(made, "--prune")
        self._wait(list(made["services"]), deadline, report)
        self._forget(keep)

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

    def _keep(self) -> str:
        """Make what `setup` has made known to the Swarm, unless it is; the name of the secret."""
        packed = self.compose.read("run", "--rm", "--no-deps", "-T", "setup", "compose.containers", "hand-over")
        if len(packed) > MOST_BYTES:
            raise StepFailed(f"what `setup` made is {len(packed)} bytes, more than the {MOST_BYTES} of a secret")
        name = f"{self.project}-{KEEP}-{hashlib.sha256(packed).hexdigest()[:12]}"
        if name not in self._secrets():
            said(["docker", "secret", "create", name, "-"], given=packed)
        return name

    def _secrets(self) -> list[str]:
        prefix = f"{self.project}-{KEEP}-"
        return said(["docker", "secret", "ls", "--filter", f"name={prefix}", "--format", "{{.Name}}"]).split()

    def _forget(self, keep: str) -> None:
        if old := [name for name in self._secrets() if name != keep]:
            said(["docker", "secret", "rm", *old])

    def _deploy(self, made: Mapping[str, object], *arguments: str) -> None:
        # nothing is pulled: what runs is what was tested, and each machine has it
        command = ["docker", "stack", "deploy", "--detach=true", "--resolve-image", "never", *arguments]
        said([*command, "--compose-file", "-", self.project], given=json.dumps(made).encode(), timeout_s=COMMAND_S)

    def _wait(self, wanted: list[str], deadline: float, report: Reporter) -> None:
        while waits := [f"{name} ({how})" for name, how in self.state().items() if name in wanted and not well(how)]:
            if time.monotonic() > deadline:
                raise WaitedTooLong(
                    f"not healthy in time: {', '.join(waits)}; see `docker service ps --no-trunc {self.project}_NAME`"
                )
            report.update("deploy", f"waiting for {', '.join(waits)}")
            time.sleep(AGAIN_S)
        report.over("deploy")

    def state(self) -> dict[str, str]:
        """How many of each run, and how many should: `2/3`; of a job `0/3 (3/3 completed)`."""
        form = ["--filter", f"label=com.docker.stack.namespace={self.project}", "--format", "{{.Name}} {{.Replicas}}"]
        lines = (line.split(" ", 1) for line in said(["docker", "service", "ls", *form]).splitlines())
        return {name.removeprefix(f"{self.project}_"): how for name, how in lines}


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
        "TEKUP_DEPLOYED": str(int(time.time())),  # so that `setup` runs again, and renews what is due
        **{f"MCP_MACHINE_{number}": machine for number, machine in enumerate(machines, 1)},
    }
    compose = Compose(KIND, version, env)
    return Swarm(compose, json.loads(compose.run("config", "--format", "json"))["name"], machines)
