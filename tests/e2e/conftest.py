"""The full local environment, on ports of its own in a folder of its own, as `tekup up` makes it."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from compose.local.consul_acl import OPERATOR, token_file
from compose.local.consul_api import token_header
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.status import ProcessStatus, Status
from tests.support.command_line import run_tekup, told
from tests.support.container_environment import ContainerEnvironment, container_environment
from tests.support.engine import Engine

PORTS = (
    "GATEWAY",
    "BROWSER",
    "FILESYSTEM",
    "SEARCH",
    "HUB",
    "INTERNAL",
    "PRIVATE",
    "OPERATORS",
    "CONTROL_PLANE",
    "CONSUL",
)
UP_S = 240


@dataclass
class Environment:
    """An environment in a directory; most attributes are known once it is up."""

    directory: Path
    up: dict[str, Any] = field(default_factory=dict)
    """What `tekup up --json` printed."""

    def tekup(self, *args: str, timeout_s: float = UP_S) -> "subprocess.CompletedProcess[str]":
        """Run a `tekup` command here; never raises for its exit code."""
        return run_tekup(*args, folder=self.directory, timeout_s=timeout_s)

    def tekup_json(self, *args: str) -> Any:
        """Run a `tekup` command with `--json`, which must succeed, and parse what it prints."""
        return told(self.tekup(*args, "--json"))

    def start(self) -> None:
        """Bring it up; all three first calls must succeed."""
        self.up = self.tekup_json("up")

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.directory / ".tekup"

    @property
    def workspace(self) -> Path:
        """The folder of filesystem and search."""
        return self.state / "workspace"

    @property
    def gateway_url(self) -> str:
        """Where clients connect, without a path."""
        return str(self.up["endpoint"]).removesuffix("/mcp")

    @property
    def control_plane_url(self) -> str:
        """The operators' API."""
        return str(self.up["control_plane"])

    @property
    def consul_url(self) -> str:
        """Consul's HTTP API."""
        return str(self.up["consul"])

    def consul_token(self, role: str = OPERATOR) -> dict[str, str]:
        """The header that shows Consul a role's token, an operator's unless told."""
        return token_header(token_file(Layout(self.directory), role))

    @property
    def key(self) -> str:
        """The development client's key."""
        return str(self.up["key"])

    @property
    def operator_token(self) -> str:
        """The operator's token."""
        return (self.state / "operator.token").read_text().strip()

    @property
    def ports(self) -> dict[str, int]:
        """All chosen ports by the setting that names them."""
        ports: dict[str, int] = json.loads((self.state / "ports.json").read_text())
        return ports

    def status(self) -> Status:
        """What `tekup status --json` shows, without the second a new Python takes."""
        return Link(Layout(self.directory)).status()

    def process(self, name: str) -> ProcessStatus:
        """One process; a service's name means its first instance."""
        return next(found for found in self.status().processes if name in (found.name, found.group))

    def until_all_ready(self, within_s: float = 30) -> None:
        """Wait until every process is ready."""
        deadline = time.monotonic() + within_s
        while missing := self.status().not_ready():
            assert time.monotonic() < deadline, f"not ready within {within_s} s: {missing}"
            time.sleep(0.1)

    def running(self) -> list[str]:
        """All running processes that carry this environment's directory in their variables."""
        return [
            f"{process.pid} {' '.join(process.cmdline())}" for process in psutil.process_iter() if self._mine(process)
        ]

    def _mine(self, process: psutil.Process) -> bool:
        try:
            running = process.status() != psutil.STATUS_ZOMBIE
            return running and process.environ().get("TEKUP_DIRECTORY") == str(self.directory)
        except psutil.Error:
            return False


def make_environment(directory: Path) -> Environment:
    """An environment that takes free ports, not started yet."""
    (directory / "tekup.toml").write_text("".join(f"MCP_{name}_PORT = 0\n" for name in PORTS))
    return Environment(directory)


@pytest.fixture(scope="session")
def environment(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Environment | ContainerEnvironment]:
    """A full environment that is up, shared by all tests; leave it as you found it."""
    folder, kind = tmp_path_factory.mktemp("environment"), request.config.getoption("--environment")
    if kind != "local":
        engine: Engine = request.getfixturevalue("engine")
        for needed in ("images", "third_parties"):
            request.getfixturevalue(needed)
        prefix: str = request.getfixturevalue("run_prefix")
        with container_environment(engine.env, kind, folder, f"{prefix}-{kind}") as running:
            yield running
        return
    made = make_environment(folder)
    try:
        made.start()
        yield made
    finally:
        made.tekup("down")


@pytest.fixture
def fresh_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment of the test's own, not started yet, for what would disturb others."""
    made = make_environment(tmp_path_factory.mktemp("fresh"))
    try:
        yield made
    finally:
        made.tekup("down")
