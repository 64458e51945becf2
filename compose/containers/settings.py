"""The settings of an environment of containers: those of the local one, and what only containers have.

Compose hands them on by name; a problem of any is said before anything else starts.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from compose.containers.bandwidth import LEAST, bytes_per_second
from compose.local.settings import Settings

LEAST_BYTES = {"browser": 512 << 20, "filesystem": 96 << 20, "search": 128 << 20, "hub": 96 << 20}
"""With less memory an instance does not get as far as its first call (docs/containers.md, "Limits")."""
LEAST_CPUS = 0.05
MACHINES = 3
"""An environment on several machines has a server of Consul on each; of three, one may be lost."""
_MACHINE = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_BYTES = re.compile(r"([1-9][0-9]*)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def bytes_of(text: str) -> int:
    """An amount of memory as Compose writes it (`512m`, `2g`), in bytes.

    Raises:
        ValueError: it is none.
    """
    found = _BYTES.fullmatch(text.strip())
    if not found:
        raise ValueError("it must be a number of bytes with k, m or g, as in 512m or 2g")
    return int(found[1]) * _UNITS[found[2].lower()]


def _at_least(service: str) -> AfterValidator:
    least = LEAST_BYTES[service]

    def check(text: str) -> str:
        if bytes_of(text) < least:
            raise ValueError(f"{service} needs {least >> 20}m at least")
        return text

    return AfterValidator(check)


def _sent(text: str) -> str:
    if bytes_per_second(text) < LEAST:
        raise ValueError(f"{LEAST * 8 // 1_000_000}mbit is the least that serves")
    return text


def _three(text: str) -> str:
    names = [name for name in text.split(",") if name]
    if not all(_MACHINE.fullmatch(name) for name in names):
        raise ValueError("a machine's name has lower-case letters, digits and hyphens; `docker node ls` tells it")
    if len(set(names)) != len(names) or len(names) not in (0, MACHINES):
        raise ValueError(f"it must be {MACHINES} different names with commas between, or none")
    return text


Bandwidth = Annotated[str, AfterValidator(_sent)]
Cpus = Annotated[float, Field(ge=LEAST_CPUS, le=1024)]
OfBrowser = Annotated[str, _at_least("browser")]
OfFilesystem = Annotated[str, _at_least("filesystem")]
OfSearch = Annotated[str, _at_least("search")]
OfHub = Annotated[str, _at_least("hub")]
Url = Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+/?)?$")]


class ContainerSettings(Settings):
    """What can be set for containers. Ports are those published on the machine; inside they are fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    browser_memory: OfBrowser = Field("2g", alias="MCP_BROWSER_MEMORY", description="memory of a browser instance")
    browser_cpus: Cpus = Field(1.0, alias="MCP_BROWSER_CPUS", description="processors of a browser instance")
    filesystem_memory: OfFilesystem = Field(
        "512m", alias="MCP_FILESYSTEM_MEMORY", description="memory of a filesystem instance"
    )
    filesystem_cpus: Cpus = Field(0.5, alias="MCP_FILESYSTEM_CPUS", description="processors of a filesystem instance")
    search_memory: OfSearch = Field("1g", alias="MCP_SEARCH_MEMORY", description="memory of a search instance")
    search_cpus: Cpus = Field(0.5, alias="MCP_SEARCH_CPUS", description="processors of a search instance")
    hub_memory: OfHub = Field("512m", alias="MCP_HUB_MEMORY", description="memory of a hub instance")
    hub_cpus: Cpus = Field(0.5, alias="MCP_HUB_CPUS", description="processors of a hub instance")
    browser_bandwidth: Bandwidth = Field(
        "200mbit", alias="MCP_BROWSER_BANDWIDTH", description="what a browser instance may send per second"
    )
    egress_bandwidth: Bandwidth = Field(
        "200mbit", alias="MCP_EGRESS_BANDWIDTH", description="what the browsers' egress proxy may send per second"
    )
    filesystem_bandwidth: Bandwidth = Field(
        "400mbit", alias="MCP_FILESYSTEM_BANDWIDTH", description="what a filesystem instance may send per second"
    )
    search_bandwidth: Bandwidth = Field(
        "400mbit", alias="MCP_SEARCH_BANDWIDTH", description="what a search instance may send per second"
    )
    hub_bandwidth: Bandwidth = Field(
        "400mbit", alias="MCP_HUB_BANDWIDTH", description="what a hub instance may send per second"
    )
    enable_sandbox: bool = Field(True, alias="MCP_ENABLE_SANDBOX", description="Chromium's own sandbox")
    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        "tekup-mcp", alias="MCP_PROJECT", description="the Compose project, by which log lines are known"
    )
    machines: Annotated[str, AfterValidator(_three)] = Field(
        "", alias="MCP_MACHINES", description="names of the machines, where the environment is on several"
    )
    gates: Annotated[int, Field(ge=1, le=MACHINES)] = Field(1, alias="MCP_GATES", description="how many gates")
    consul_servers: Annotated[Literal[0, 1, 3], BeforeValidator(int)] = Field(
        0, alias="MCP_CONSUL_SERVERS", description="Consul's servers behind the agent; 0: the agent is the one server"
    )
    consul_subnet: Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$")] = Field(
        "10.213.7.0/24", alias="MCP_CONSUL_SUBNET", description="network of Consul's own, where it has servers"
    )
    bridged: Annotated[str, Field(pattern=r"^([a-z][a-z0-9-]{0,31}(,[a-z][a-z0-9-]{0,31}){0,31})?$")] = Field(
        "", alias="MCP_BRIDGED", description="servers of other people, each in a container of its own, by name"
    )
    network_isolation: bool = Field(
        True, alias="MCP_NETWORK_ISOLATION", description="no way out of the networks of the services"
    )

    @property
    def servers_of_others(self) -> tuple[str, ...]:
        """The names of the servers of other people."""
        return tuple(name for name in self.bridged.split(",") if name)

    def problems(self) -> list[str]:
        """None: containers are for all three kinds of environment."""
        return []
