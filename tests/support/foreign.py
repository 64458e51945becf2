"""Lets bearers of an authorization server into the gate of a stage, as the local environment does."""

from __future__ import annotations

import json
import os
import string
import sys
from contextlib import suppress
from dataclasses import dataclass

import httpx

from compose.local.edge import edge_values
from compose.local.settings import Settings
from tests.support.authorization import AuthorizationServer
from tests.support.gate import ROOT, Gate, wait_until
from tests.support.ports import free_ports
from tests.support.stage import WAIT_S, Process, Stage

DESKTOP = "desktop"


@dataclass
class Foreign:
    """What judges bearers at the stage's first gate.

    Attributes:
        app: The process.
        url: Where it listens.
    """

    app: Process
    url: str

    def answers(self) -> bool:
        """Whether it is up."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ready", timeout=2, trust_env=False).is_success
        return False

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.app.start()
        wait_until(self.answers, f"the judge of bearers up; see {self.app.log}", WAIT_S)


def let_in(made: Stage, server: AuthorizationServer, **settings: str) -> Foreign:
    """Run the app beside the first gate, and have Traefik ask it."""
    gate, folder = made.gates[0], made.folder
    issuers = folder / "issuers.json"
    issuers.write_text(json.dumps([{"issuer": server.issuer}]))
    (port,) = free_ports(1)
    env = {
        "MCP_PORT": str(port),
        "MCP_GATE_DIR": str(gate.folder),
        "MCP_PUBLIC_URL": gate.public,
        "MCP_OAUTH_ISSUERS_FILE": str(issuers),
        **settings,
    }
    foreign = Foreign(_process(made, "oauth", "control_plane.oauth", env), f"http://127.0.0.1:{port}")
    made.instances.append(foreign.app)
    foreign.start()
    render(gate, port)
    return foreign


def render(gate: Gate, port: int) -> None:
    """The gate's own files, with OAuth."""
    values = {
        "GATE_DIR": str(gate.folder),
        "ALLOWED_HOSTS": "",
        "ALLOWED_ORIGINS": "",
        "POLICY_MAX_AGE_S": "0",
        "MTLS": "false",
        "OAUTH_ADDRESS": f"127.0.0.1:{port}",
        "OAUTH_RESOURCE": gate.public,
        "OAUTH_SCOPE": "mcp:{service}",
        **edge_values(Settings.model_validate({})),
    }
    for name in ("oauth", "gate"):
        template = (ROOT / "traefik" / f"{name}.yml.tmpl").read_text()
        gate.write(f"dynamic/{name}.yml", string.Template(template).substitute(values))


def let_client(made: Stage, server: AuthorizationServer, name: str = DESKTOP, **rights: object) -> None:
    """Add a policy client that all bearers of the server count as."""
    resource = {"kind": "Client", "id": name, "oauth": [server.issuer], **rights}
    made.ask("POST", "/v1/state/apply", {"resources": [resource], "reason": "test"})


def add_hub(made: Stage) -> None:
    """A hub, for lists and for the legacy era."""
    secrets = made.folder / "secrets-hub.json"
    secrets.write_text(json.dumps({"service": "hub", "keys": made.secrets["services"]["hub"]}))
    secrets.chmod(0o600)
    env = {
        "MCP_SECRETS_FILE": str(secrets),
        "MCP_CONSUL_URL": made.consul.url,
        "MCP_VERSION": "1.0.0",
        "MCP_GATE_INTERNAL_URL": made.gates[0].internal,
        "MCP_HUB_SERVICE_DEADLINE_S": "20",
    }
    made.instances.append(_process(made, "hub", "services.hub", env).start())
    wait_until(lambda: made.answer("GET", "/v1/services/hub").json().get("policy"), "the hub taken in", WAIT_S)


def _process(made: Stage, name: str, module: str, env: dict[str, str]) -> Process:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/"), **env}
    return Process(name, [sys.executable, "-m", module], given, made.folder / f"{name}.log")
