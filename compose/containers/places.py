"""Where everything is in an environment of containers: folders of the one-shot containers, addresses in networks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.local.consul_acl import CONSUL, GATE, GATE_ID, NODE, ROLES, Role, gate_role, keeper_role, server_role
from compose.local.layout import Layout
from compose.local.log_source import LogSource, of_containers
from compose.local.parts import ConsulServers, Parts
from compose.local.settings import Effective

from .settings import ContainerSettings

KEEP = "keep"
"""The volume of whoever prepares: all secrets, from which each container is given its own."""
GIVEN = Path("/run/tekup")
"""Where each container finds what it was given."""
GATE_FOLDER = Path("/gate")
"""The gate's folder, as Traefik and its agent see it."""
OPERATORS_GATE = "operators-gate"
DATA = Path("/data")
"""Where a program of the on-call stack keeps its own."""
CONSUL_CA = "consul-ca.pem"
"""The file of Consul's authority, among what each container is given."""
PAGES_URL = "http://pages:8080/"
TLS_PORT = 8501
HOSTS: Mapping[str, tuple[str, int]] = {
    "MCP_GATEWAY_PORT": ("mcp-gateway", 3000),
    "MCP_INTERNAL_PORT": ("mcp-gateway", 3005),
    "MCP_PRIVATE_PORT": ("mcp-gateway", 3006),
    "MCP_OPERATORS_PORT": ("operators-gate", 3008),
    "MCP_CONTROL_PLANE_PORT": ("control-plane", 3010),
    **{f"control-plane-{number}": (f"control-plane-{number}", 3010) for number in range(2, 10)},
    "MCP_CONSUL_PORT": ("consul", 8500),
    "MCP_PROMETHEUS_PORT": ("prometheus", 9090),
    "MCP_ALERTMANAGER_PORT": ("alertmanager", 9093),
    "MCP_LOKI_PORT": ("loki", 3100),
    "loki-grpc": ("loki", 9095),
    "MCP_JAEGER_PORT": ("jaeger", 16686),
    "jaeger-otlp": ("jaeger", 4317),
    "jaeger-admin": ("jaeger", 14269),
    "jaeger-grpc": ("jaeger", 14250),
    "MCP_COLLECTOR_PORT": ("collector", 4317),
    "collector-metrics": ("collector", 8888),
    "collector-health": ("collector", 13133),
    "usage": ("usage", 9100),
}
"""Each named port of the platform: whose it is, and its number inside."""


@dataclass(frozen=True)
class Agent:
    """Consul's agent of one machine, whom everybody there asks."""

    node: str
    """Its name in Consul."""
    role: str
    names: tuple[str, ...]
    """By which it is found."""


class Here(Parts):
    """The parts of an environment of containers: each address is one in its networks, whatever is published outside."""

    def __init__(self, effective: Effective, root: Path = Path("/")) -> None:
        """Args:
        effective: the settings.
        root: what the volumes are mounted below.
        """
        layout = Layout(root / KEEP)
        super().__init__(layout, effective, {name: port for name, (_, port) in HOSTS.items()}, {})

    @property
    def settings(self) -> ContainerSettings:
        """The settings, those that only containers have among them."""
        settings = self.effective.settings
        if not isinstance(settings, ContainerSettings):
            raise TypeError("an environment of containers has ContainerSettings")
        return settings

    @property
    def given(self) -> Path:
        """Here a volume for each recipient is mounted, which it finds at `/run/tekup`."""
        return self.layout.directory.parent / "given"

    @property
    def workspace(self) -> Path:
        """The folder that filesystem and search work in."""
        return self.layout.directory.parent / "workspace"

    @property
    def gates(self) -> Mapping[str, Path]:
        """The folder of each gate, by who is given what its agent needs."""
        return {gate: self.layout.state / gate for gate in (GATE, *further(GATE, self.settings.gates))}

    @property
    def operators_gate(self) -> Path | None:
        """The folder of the gate for operators alone; there is none where no volume that can be written is mounted."""
        folder = self.given / OPERATORS_GATE
        return folder if os.access(folder, os.W_OK) else None

    @property
    def data(self) -> Path:
        """Here the volumes are mounted in which programs keep their own."""
        return self.layout.directory.parent / "data"

    @property
    def agents(self) -> Mapping[str, Agent]:
        """Consul's agents by who is given what each needs: one, or one on each machine."""
        machines = self.settings.machines.split(",")
        first = Agent(NODE, CONSUL, (CONSUL, *_on(machines[0])))
        others = {
            f"{CONSUL}-agent-{number}": Agent(
                node := f"{NODE}-{number}", server_role(node).name, (CONSUL, *_on(machine))
            )
            for number, machine in enumerate(machines[1:], 2)
        }
        return {CONSUL: first, **others}

    @property
    def servers(self) -> tuple[str, ...]:
        """Consul's servers by name; none: the one agent is the server."""
        return tuple(f"{CONSUL}-{number}" for number in range(1, self.settings.consul_servers + 1))

    def roles(self) -> tuple[Role, ...]:
        """Who has a token of Consul's; the last is the operator, whom all wait for."""
        agents = [agent.node for agent in self.agents.values()]
        gates = (
            gate_role(gate_id(gate), agents[number] if len(agents) > 1 else NODE)
            for number, gate in enumerate(self.gates)
            if gate != GATE
        )
        return (*(server_role(server) for server in (*self.servers, *agents[1:])), *gates, keeper_role(), *ROLES)

    def address(self, name: str) -> str:
        """Host and port by which others reach a named port."""
        if name == "MCP_CONSUL_PORT" and self.servers:
            return f"{CONSUL}:{TLS_PORT}"
        return "{}:{}".format(*HOSTS[name])

    def listening(self, name: str) -> str:
        """Where its owner listens: everywhere in its networks; for itself alone, on loopback."""
        own = "127.0.0.1" if name == "loki-grpc" else ""
        return f"{own or '0.0.0.0'}:{HOSTS[name][1]}"

    def files_of(self, program: str) -> Path:  # noqa: ARG002 (the same for all)
        """Where a program finds the files it is given."""
        return GIVEN

    def data_of(self, program: str) -> Path:  # noqa: ARG002 (the same for all)
        """Where a program keeps its own."""
        return DATA

    def token_of(self, role: str) -> Path:  # noqa: ARG002 (the same for all)
        """Where whoever has a role in Consul finds its token."""
        return GIVEN / "consul.token"

    def usage(self) -> str:
        """The container that asks the engine; none where there are several engines."""
        return "" if self.settings.machines else self.address("usage")

    def log_source(self) -> LogSource:
        """What Docker writes of this project's containers."""
        return of_containers(self.settings.project)

    def consul_servers(self) -> ConsulServers:
        """The servers, or the one agent."""
        if not self.servers:
            return super().consul_servers()
        addresses = tuple(f"{server}:{TLS_PORT}" for server in self.servers)
        return ConsulServers(addresses, "https", str(GIVEN / CONSUL_CA))

    def consul_url(self) -> str:
        """Consul's API, for everybody."""
        return f"{'https' if self.servers else 'http'}://{self.address('MCP_CONSUL_PORT')}"


def _on(machine: str) -> tuple[str, ...]:
    """How those on a machine find its agent (`compose/swarm.yml`)."""
    return (f"{machine}.{CONSUL}",) if machine else ()


def further(name: str, count: int) -> tuple[str, ...]:
    """The second, third … of a kind: `gate-2`, `gate-3`."""
    return tuple(f"{name}-{number}" for number in range(2, count + 1))


def gate_id(gate: str) -> str:
    """By which id the agent of a gate reports: `local`, `local-2`."""
    return GATE_ID + gate.removeprefix(GATE)
