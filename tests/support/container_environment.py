"""An environment of containers, with what the tests of the local one ask of it: URLs, a key, `tekup`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from compose.local.settings import SERVICES
from tests.support.command_line import REPOSITORY, run_tekup, told
from tests.support.gate import wait_until
from tests.support.ports import free_port

UP_S = 300.0
WITHOUT = "MCP_DEPLOY_WITHOUT"
"""Services to leave out, as `tekup deploy` does; what needs them fails."""
PORTS = ("MCP_GATEWAY_PORT", "MCP_CONTROL_PLANE_PORT")
SECURE_PORTS = (
    *("MCP_GATEWAY_PORT", "MCP_GATEWAY_2_PORT", "MCP_OPERATORS_PORT"),
    *(f"MCP_{name}_PORT" for name in ("PROMETHEUS", "ALERTMANAGER", "LOKI", "JAEGER", "GRAFANA")),
)
USER = 10001
"""Who the containers run as."""


def left_out() -> set[str]:
    """Services that are not started."""
    return set(filter(None, os.environ.get(WITHOUT, "").split(",")))


def is_well(container: Mapping[str, Any]) -> bool:
    """Whether a container, as `docker compose ps` has it, runs and is not ill."""
    return container["State"] == "running" and container["Health"] in ("", "healthy")


@dataclass
class ContainerEnvironment:
    """One of `compose/docker-compose.*.yml`, as a project of its own, on free ports.

    Args:
        env: Variables by which Docker's command finds its engine.
        kind: `dev`, `staging` or `prod`.
        directory: For its workspace.
        project: Its name, which everything of it has in front.
        settings: Variables for its Compose file.
        laid_over: Further Compose files.
    """

    env: Mapping[str, str]
    kind: str
    directory: Path
    project: str
    settings: dict[str, str] = field(default_factory=dict)
    key: str = ""
    operator_token: str = ""
    laid_over: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Choose what is this environment's own."""
        ports = {name: free_port() for name in (SECURE_PORTS if self.secure else PORTS)}
        self.workspace.mkdir(parents=True)
        os.chown(self.workspace, USER, USER)
        own = {
            **{name: str(port) for name, port in ports.items()},
            "MCP_WORKSPACE": str(self.workspace),
            "MCP_NETWORK_NAME": f"{self.project}-network",
            "MCP_CONSUL_SUBNET": f"10.{random.randrange(64, 250)}.{random.randrange(250)}.0/24",
            "MCP_BROWSER_ALLOW_HOSTS": "pages:8080",
        }
        if self.secure:
            own["MCP_FILESYSTEM_BANDWIDTH"] = "40mbit"  # half a processor can send more
            self.alert_secrets.mkdir()
            own["MCP_ALERT_SECRETS_FOLDER"] = str(self.alert_secrets)
        if self.kind == "prod":
            own["MCP_ALERT_TIME_SCALE"] = "0.2"  # minutes of rules are twelve seconds
        self.settings = {**own, **self.settings}

    @property
    def workspace(self) -> Path:
        """The folder of filesystem and search, as it is outside."""
        return self.directory / "workspace"

    @property
    def alert_secrets(self) -> Path:
        """The folder of what operators' receivers name, as it is outside."""
        return self.directory / "alert-secrets"

    @property
    def secure(self) -> bool:
        """Whether it is as production: TLS, mutual TLS, the on-call stack."""
        return self.kind != "dev"

    @property
    def gateway_url(self) -> str:
        """Where clients connect, without a path; by the name that the certificate is for."""
        base = "https://localhost" if self.secure else "http://127.0.0.1"
        return f"{base}:{self.settings['MCP_GATEWAY_PORT']}"

    @property
    def ca(self) -> Path:
        """Whom clients have to trust, once it is up."""
        return self.directory / "ca.pem"

    def on_call_url(self, program: str) -> str:
        """Where a program of the on-call stack answers."""
        return f"http://127.0.0.1:{self.settings[f'MCP_{program.upper()}_PORT']}"

    @property
    def control_plane_url(self) -> str:
        """The operators' API, by whichever replica answers."""
        if self.secure:
            return f"https://localhost:{self.settings['MCP_OPERATORS_PORT']}"
        return f"http://127.0.0.1:{self.settings['MCP_CONTROL_PLANE_PORT']}"

    def ask(self, method: str, path: str, given: Mapping[str, object] | None = None) -> httpx.Response:
        """What the operators' API answers whoever has the environment's own token."""
        token = {"Authorization": f"Bearer {self.operator_token}"}
        trusted = ssl.create_default_context(cafile=self.ca) if self.secure else True
        url = f"{self.control_plane_url}{path}"
        return httpx.request(method, url, json=given, headers=token, timeout=60, trust_env=False, verify=trusted)

    def compose(self, *args: str, timeout_s: float = UP_S, given: str = "") -> subprocess.CompletedProcess[str]:
        """`docker compose` on this project, with something on its standard input; never raises for its exit code."""
        files = (REPOSITORY / "compose" / f"docker-compose.{self.kind}.yml", *self.laid_over)
        named = [part for file in files for part in ("-f", str(file))]
        return subprocess.run(
            ["docker", "compose", "--ansi", "never", "--profile", "proof", "-p", self.project, *named, *args],
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

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What `docker compose ps` says of each container, of these services or of all."""
        return [json.loads(line) for line in self.said("ps", "--all", "--format", "json", *services).splitlines()]

    def start(self) -> None:
        """Bring it up; the first calls must succeed. All but Grafana, which can only be pulled, and who is left out."""
        if self.secure:
            self.settings.setdefault("MCP_ENGINE_FOLDER", self._engine_folder())
            socket = self.env.get("DOCKER_HOST", "").removeprefix("unix://")
            self.settings.setdefault("MCP_ENGINE_SOCKET", socket or "/var/run/docker.sock")
        services = set(self.said("config", "--services").split()) - {"grafana"} - left_out()
        self.said("up", "-d", "--no-build", *sorted(services))
        self.operator_token = self.said("exec", "-T", "control-plane", "cat", "/run/tekup/operator.token").strip()
        (self.directory / "operator.token").write_text(self.operator_token)
        if self.secure:
            self.ca.write_text(self.said("exec", "-T", "certificate", "cat", "/run/tekup/ca.pem"))
        if self.kind == "prod":
            self._admit()
        code = self._ended("first-call")
        said = self.said("logs", "--no-log-prefix", "first-call")
        assert code == 0, f"first calls failed:\n{said}\n{self.compose('logs', '--tail', '40').stdout}"
        key = re.search(r"API key\s+(tk_\S+)", said)
        assert key, said
        self.key = key[1]

    def start_again(self) -> None:
        """Bring up what does not run, as after a restore; nothing is made anew and no first call is made."""
        services = set(self.said("config", "--services").split()) - {"grafana", "first-call"} - left_out()
        self.said("up", "-d", "--no-build", *sorted(services))

    def _ended(self, service: str) -> int:
        """Its exit code, once it has ended."""
        found: list[dict[str, Any]] = []

        def over() -> bool:
            found[:] = self.containers(service)
            return bool(found) and found[0]["State"] == "exited"

        wait_until(over, f"{service} to end", UP_S)
        return int(found[0]["ExitCode"])

    def _engine_folder(self) -> str:
        command = ["docker", "info", "--format", "{{.DockerRootDir}}"]
        return subprocess.run(command, env=dict(self.env), capture_output=True, text=True, check=True).stdout.strip()

    def _admit(self) -> None:
        """Let every service in: in production none gets traffic before an operator says so."""

        def begun() -> bool:
            return self.tekup("state", "init", "--reason", "a new environment").returncode == 0

        def registered() -> bool:
            known = told(self.tekup("traffic", "show", "--json"))["services"]
            return {one["name"] for one in known if one["instances"]} == set(SERVICES)

        wait_until(begun, "a first state, once a gate has reported", 120)
        wait_until(registered, "every service to have registered", 120)
        for name in SERVICES:
            version = told(self.tekup("traffic", "show", name, "--json"))["instances"][0]["version"]
            done = self.tekup("traffic", "set", name, f"{version}=100", "--reason", "first release")
            assert done.returncode == 0, done.stderr

    def deploy(self, *args: str, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        """Run `tekup deploy` of this environment; never raises for its exit code."""
        own = {**self.env, **self.settings, "COMPOSE_PROJECT_NAME": self.project}
        return run_tekup("deploy", self.kind, *args, folder=self.directory, timeout_s=timeout_s, own=own)

    def stop(self) -> None:
        """Take it down; nothing of it is left."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def tekup(self, *args: str, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        """Run a `tekup` command against it; never raises for its exit code."""
        own = {
            "MCP_CONTROL_PLANE_URL": self.control_plane_url,
            "MCP_OPERATOR_TOKEN_FILE": str(self.directory / "operator.token"),
            **({"SSL_CERT_FILE": str(self.ca)} if self.secure else {}),
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
    trusted = os.environ.get("SSL_CERT_FILE")
    try:
        made.start()
        if made.secure:
            os.environ["SSL_CERT_FILE"] = str(made.ca)
        yield made
    finally:
        if trusted is not None:
            os.environ["SSL_CERT_FILE"] = trusted
        else:
            os.environ.pop("SSL_CERT_FILE", None)
        made.stop()
