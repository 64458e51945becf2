"""An environment of containers, with what the tests of the local one ask of it: URLs, a key, `tekup`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.support.command_line import REPOSITORY, run_tekup, told
from tests.support.ports import free_port

UP_S = 300.0
USER = 10001
"""Who the containers run as."""


@dataclass
class ContainerEnvironment:
    """One of `compose/docker-compose.*.yml`, as a project of its own, on free ports.

    Args:
        env: Variables by which Docker's command finds its engine.
        kind: `dev`, `staging` or `prod`.
        directory: For its workspace.
        project: Its name, which everything of it has in front.
        settings: Variables for its Compose file.
    """

    env: Mapping[str, str]
    kind: str
    directory: Path
    project: str
    settings: dict[str, str] = field(default_factory=dict)
    key: str = ""
    operator_token: str = ""

    def __post_init__(self) -> None:
        """Choose what is this environment's own."""
        ports = {name: free_port() for name in ("MCP_GATEWAY_PORT", "MCP_CONTROL_PLANE_PORT")}
        self.workspace.mkdir(parents=True)
        os.chown(self.workspace, USER, USER)
        own = {
            **{name: str(port) for name, port in ports.items()},
            "MCP_WORKSPACE": str(self.workspace),
            "MCP_NETWORK_NAME": f"{self.project}-network",
        }
        self.settings = {**own, **self.settings}

    @property
    def workspace(self) -> Path:
        """The folder of filesystem and search, as it is outside."""
        return self.directory / "workspace"

    @property
    def gateway_url(self) -> str:
        """Where clients connect, without a path."""
        return f"http://127.0.0.1:{self.settings['MCP_GATEWAY_PORT']}"

    @property
    def control_plane_url(self) -> str:
        """The operators' API."""
        return f"http://127.0.0.1:{self.settings['MCP_CONTROL_PLANE_PORT']}"

    def compose(self, *args: str, timeout_s: float = UP_S, given: str = "") -> subprocess.CompletedProcess[str]:
        """`docker compose` on this project, with something on its standard input; never raises for its exit code."""
        file = REPOSITORY / "compose" / f"docker-compose.{self.kind}.yml"
        return subprocess.run(
            ["docker", "compose", "--ansi", "never", "-p", self.project, "-f", str(file), *args],
            env={**self.env, **self.settings},
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def said(self, *args: str, timeout_s: float = UP_S) -> str:
        """What `docker compose` prints, which must succeed."""
        done = self.compose(*args, timeout_s=timeout_s)
        assert done.returncode == 0, f"docker compose {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Bring it up; the first calls must succeed."""
        self.said("up", "-d", "--no-build")
        code = self.compose("wait", "first-call").returncode
        said = self.said("logs", "--no-log-prefix", "first-call")
        assert code == 0, f"first calls failed:\n{said}\n{self.compose('logs', '--tail', '40').stdout}"
        key = re.search(r"API key\s+(tk_\S+)", said)
        assert key, said
        self.key = key[1]
        self.operator_token = self.said("exec", "-T", "control-plane", "cat", "/run/tekup/operator.token").strip()
        (self.directory / "operator.token").write_text(self.operator_token)

    def stop(self) -> None:
        """Take it down; nothing of it is left."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def tekup(self, *args: str, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        """Run a `tekup` command against it; never raises for its exit code."""
        own = {
            "MCP_CONTROL_PLANE_URL": self.control_plane_url,
            "MCP_OPERATOR_TOKEN_FILE": str(self.directory / "operator.token"),
        }
        return run_tekup(*args, folder=self.directory, timeout_s=timeout_s, own=own)

    def tekup_json(self, *args: str) -> Any:
        """Run a `tekup` command with `--json`, which must succeed, and parse what it prints."""
        return told(self.tekup(*args, "--json"))


@contextlib.contextmanager
def container_environment(
    env: Mapping[str, str], kind: str, folder: Path, project: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[ContainerEnvironment]:
    """An environment that is up for as long as the block runs.

    Args:
        env: Variables by which Docker's command finds its engine.
        kind: `dev`, `staging` or `prod`.
        folder: For its workspace.
        project: Its name.
        settings: Further variables for its Compose file.
    """
    made = ContainerEnvironment(env, kind, folder, project, dict(settings))
    try:
        made.start()
        yield made
    finally:
        made.stop()
