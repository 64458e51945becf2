"""Everything real that is attacked: Traefik with the plugin, two counting services, filesystem, the hub.

Tables are written by hand, so that each row knows exactly what is in force. Beside the real entrypoints there is one
without policy (`open`), to show that what is refused would run.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.attacks.bearers import ISSUER, STAFF, start
from tests.support.gate import Gate, b64, close, is_open, lay_out, sign, wait_until
from tests.support.lines import whole_lines
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
INSTANCES = {"vault": "aaaaa1", "attic": "aaaaa2", "filesystem": "aaaaa3", "hub": "aaaaa4"}
RIGHTS = {
    "dev": ["*"],
    "rich": ["*"],
    "narrow": ["vault_peek", "vault_open", "vault_use", "vault://public/*"],
    "rooted": ["*"],
    "nobody": [],
    "gone": ["*"],
    "late": ["*"],
    STAFF: ["*"],
}
OAUTH = {STAFF: {"oauth": [ISSUER], "access": "all", "roots": [], "hosts": []}}
START_S = 180.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Something that ran in a counting service, and for whom."""

    service: str
    what: str
    mark: str
    client: str
    key: str
    allow: tuple[str, ...]
    roots: tuple[str, ...]
    copy: bool
    shadow: str
    odd: tuple[str, ...]
    """Headers that came with it, say who calls, and are not the gate's."""


@dataclass
class World:
    """What runs, and what is secret in it."""

    folder: Path
    gate: Gate
    open_url: str
    mac: str
    service_keys: dict[str, str]
    keys: dict[str, str]
    handles: dict[str, str] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    admin: dict[str, str] = field(default_factory=dict)

    # -- secrets and what is made with them

    def grant(self, client: str, *, signed_with: str = "", **otherwise: object) -> str:
        """A client's grant, or one that says otherwise."""
        said = {
            "v": 1,
            "client": client,
            "key": f"{client}-1",
            "allow": RIGHTS[client],
            "cohort": "",
            "roots": self.roots(client),
            "hosts": [],
            **otherwise,
        }
        body = b64(json.dumps(said, separators=(",", ":")).encode())
        return f"{body}.{b64(sign(signed_with or self.mac, body))}"

    def roots(self, client: str) -> list[str]:
        """The folders a client is narrowed to."""
        return [str(self.folder / "root/mine")] if client == "rooted" else []

    def proof(self, caller: str) -> str:
        """By which a caller proves itself on the internal entrypoint."""
        return sign(self.service_keys[caller], "caller").hex()

    def gate_proof(self, service: str) -> str:
        """By which the gate proves itself to a service."""
        return sign(self.service_keys[service], "gate").hex()

    def forged(self, what: str) -> str:
        """Grants, handles and keys as an attacker makes them from its own.

        Raises:
            KeyError: There is no such forgery.
        """
        own = self.grant("narrow")
        payload, tag = own.split(".")
        handle, instance = self.handles["dev"], INSTANCES["attic"]
        _, random, mark = handle.split(".")
        widened = b64(urlsafe_b64decode(payload + "==").replace(b'"allow":["vault_peek"', b'"allow":["*","vault_peek"'))
        made = {
            "grant-widened": f"{widened}.{tag}",
            "grant-of-dev-with-own-tag": f"{self.grant('dev').split('.')[0]}.{tag}",
            "grant-by-service-key": self.grant("dev", signed_with=self.service_keys["vault"]),
            "grant-by-zero-key": self.grant("dev", signed_with="00" * 32),
            "grant-without-tag": f"{payload}.",
            "grant-of-unknown-key": self.grant("narrow", key="nobody-knows"),
            "grant-with-another-key": self.grant("narrow", key="dev-1"),
            "grant-version-2": self.grant("dev", v=2),
            "handle-other-instance": f"{instance}.{random}.{mark}",
            "handle-other-random": f"{handle.split('.')[0]}.{b64(b'0123456789abcdef')}.{mark}",
            "handle-other-tag": f"{handle.split('.')[0]}.{random}.{'A' * 22}",
            "handle-no-tag": f"{handle.split('.')[0]}.{random}.",
            "handle-by-mac": self._handle(self.mac, "narrow"),
            "handle-by-attic-key": self._handle(self.service_keys["attic"], "narrow"),
            "key-right-id-wrong-secret": f"tk_dev-1_{'0' * 48}",
            "key-almost": self.keys["dev"][:-1] + ("0" if self.keys["dev"][-1] != "0" else "1"),
            "key-prefix": self.keys["dev"][:-1],
            "key-and-more": self.keys["dev"] + "0",
            "key-upper": self.keys["dev"].upper(),
            "key-id-of-other": f"tk_narrow-1_{self.keys['dev'].rsplit('_', 1)[1]}",
            "key-secret-alone": self.keys["dev"].rsplit("_", 1)[1],
            "key-hash": hashlib.sha256(self.keys["dev"].encode()).hexdigest(),
            "key-hash-as-secret": f"tk_dev-1_{hashlib.sha256(self.keys['dev'].encode()).hexdigest()}",
        }
        return made[what]

    def _handle(self, key: str, client: str) -> str:
        text = f"{INSTANCES['vault']}.{b64(b'0123456789abcdef')}"
        return f"{text}.{b64(sign(key, f'{text}.{client}'))[:22]}"

    def secrets(self) -> dict[str, str]:
        """All that may stand nowhere, by what it is."""
        found = {f"key of {client}": key.rsplit("_", 1)[1] for client, key in self.keys.items()}
        found |= {f"grant of {client}": self.grant(client).split(".")[1] for client in RIGHTS}
        found |= {f"key of service {name}": key for name, key in self.service_keys.items()}
        found |= {f"proof of {name}": self.proof(name) for name in self.service_keys}
        found |= {f"gate's proof to {name}": self.gate_proof(name) for name in self.service_keys}
        return found | {"MAC": self.mac}

    # -- what is in force

    def write_clients(self, rights: dict[str, list[str]] | None = None, **members: Json) -> None:
        """Write clients.json; `rights` are other ones of some clients, `members` change a client's key."""
        self.gate.serial += 1
        keys = {
            f"{name}-1": {
                "client": name,
                "hash": hashlib.sha256(self.keys[name].encode()).hexdigest(),
                "expires": 2 if name == "late" else 0,
                "revoked": 1 if name == "gone" else 0,
                "grant": self.grant(name),
                **members.get(name, {}),
            }
            for name in RIGHTS
        }
        allowed = RIGHTS | (rights or {})
        clients = {name: {"allow": allow, "cohort": "", **OAUTH.get(name, {})} for name, allow in allowed.items()}
        said = {"serial": self.gate.serial, "epoch": 1, "number": 17, "clients": clients, "keys": keys}
        self.gate.write("tables/clients.json", json.dumps(said))
        self.gate.in_force()

    # -- what came of it

    def runs(self, mark: str) -> list[Run]:
        """All that ran with a mark."""
        found = []
        for service in ("vault", "attic"):
            for line in whole_lines(self.folder / f"{service}.ran"):
                said = json.loads(line)
                if mark in said["mark"]:
                    about = (said["client"], said["key"], tuple(said["rights"]["allow"]), tuple(said["roots"]))
                    found.append(
                        Run(
                            service,
                            said["what"],
                            said["mark"],
                            *about,
                            said["copy"],
                            said["shadow"],
                            tuple(said["odd"]),
                        )
                    )
        return found

    def is_own(self, run: Run, client: str) -> bool:
        """Whether something ran for this client as it is: its key, its rights, no copy, no other word of who calls."""
        name, _, user = client.partition("~")
        rights = (tuple(RIGHTS.get(name, ())), tuple(self.roots(name)))
        own = (run.client, run.key, run.allow, run.roots) == (client, "" if user else f"{name}-1", *rights)
        return own and (run.copy, run.shadow, run.odd) == (False, "", ())

    def ended(self) -> list[str]:
        """Which of the services have ended, with what, and what they said last."""
        found = []
        for name, instance in INSTANCES.items():
            code = self.gate.backends[instance][1].poll()
            if code is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                found.append(f"{name} ended with {code}; its last words: {said}")
        return found

    def alive(self) -> None:
        """Every service runs, and a permitted call works."""
        assert self.ended() == []
        mark = secrets.token_hex(8)
        told = self.tool("dev", "vault_peek", {"mark": mark})
        assert "peeked" in told, told
        assert len(self.runs(mark)) == 1

    def carried(self, service: str) -> float:
        """Calls that a service of Traefik's was given."""
        text = httpx.get(f"{self.gate.private}/traefik-metrics", timeout=20, trust_env=False).text
        mine = (line for line in text.splitlines() if f'service="{service}@file"' in line)
        return sum(float(line.rpartition(" ")[2]) for line in mine if line.startswith("traefik_service_requests_total"))

    def tool(self, client: str, tool: str, arguments: Json) -> str:
        """Text of a call in order."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        answer = self.gate.http.post(
            f"{self.gate.public}/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            headers={
                "Host": "gate.test",
                "Authorization": f"Bearer {self.keys[client]}",
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/call",
                "Mcp-Name": tool,
            },
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["result"]["content"][0]["text"])


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start everything; at the end nothing is left."""
    gate = lay_out(folder / "gate")
    known = {name: secrets.token_hex(32) for name in (*INSTANCES, "control-plane")}
    keys = {name: f"tk_{name}-1_{secrets.token_hex(24)}" for name in RIGHTS}
    made = World(folder, gate, f"http://127.0.0.1:{free_port()}", secrets.token_hex(32), known, keys)
    try:
        _furnish(made)
        yield made
    finally:
        close(gate)


def _furnish(made: World) -> None:
    gate = made.gate
    for place in ("root/mine", "root/theirs"):
        (made.folder / place).mkdir(parents=True)
    (made.folder / "root/mine/mine.txt").write_text("my own content")
    (made.folder / "root/theirs/theirs.txt").write_text("foreign content")
    gate.write(
        "tables/secrets.json",
        json.dumps({"mac": [made.mac], "services": {n: [k] for n, k in made.service_keys.items()}}),
    )
    own = gate.folder / "dynamic/gate.yml"
    own.write_text(own.read_text().replace("hosts: []", 'hosts: ["gate.test"]'))
    ports = {name: free_port() for name in INSTANCES}
    _add_open_entrypoint(made, ports["vault"])
    made.logs.append(start(gate, made.folder))
    gate.launch()
    wait_until(gate.answers, f"Traefik up; see {gate.folder}/traefik.log", START_S)
    for name, port in ports.items():
        _start(made, name, port)
    for name, port in ports.items():
        wait_until(lambda port=port: _ready(port), f"{name} ready; see {made.folder}", START_S)  # type: ignore[misc]
    gate.routes({name: {f"{name}_1-0-0": [instance]} for name, instance in INSTANCES.items()})
    gate.services(
        {name: {f"{name}_1-0-0": 100} for name in INSTANCES},
        {name: {instance: f"{name}_1-0-0_{instance}"} for name, instance in INSTANCES.items()},
    )
    made.write_clients()
    wait_until(lambda: _works(made), f"a call through the gate; see {made.folder}", START_S)
    made.handles |= {client: made.tool(client, "vault_open", {}) for client in ("dev", "narrow")}
    made.handles |= {f"attic {client}": made.tool(client, "attic_open", {}) for client in ("dev",)}


def _start(made: World, name: str, port: int) -> None:
    secrets_file = made.folder / f"{name}.secrets.json"
    secrets_file.write_text(json.dumps({"service": name, "keys": [made.service_keys[name]]}))
    secrets_file.chmod(0o600)
    (made.folder / f"{name}.ran").touch()
    admin = free_port()
    counting = name in ("vault", "attic")
    module = ["tests.attacks.counting_service", name] if counting else [f"services.{name}"]
    own = {
        "hub": {"MCP_GATE_INTERNAL_URL": made.gate.internal, "MCP_HUB_SERVICE_DEADLINE_S": "10"},
        "filesystem": {"MCP_FILESYSTEM_ROOTS": str(made.folder / "root")},
    }.get(name, {f"MCP_{name.upper()}_RAN": str(made.folder / f"{name}.ran")})
    given = {
        "MCP_SECRETS_FILE": str(secrets_file),
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_INSTANCE": INSTANCES[name],
        "MCP_LOG_LEVEL": "debug",
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        **own,
    }
    log = made.folder / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", *module], env=given, cwd=ROOT, stdout=out, stderr=out)
    made.gate.backends[INSTANCES[name]] = (port, process)
    made.logs.append(log)
    made.admin[name] = f"http://127.0.0.1:{admin}"


def _add_open_entrypoint(made: World, port: int) -> None:
    """A gate without policy: every call goes to vault as dev's, proven."""
    static = made.gate.folder / "traefik.yml"
    address = made.open_url.removeprefix("http://")
    static.write_text(
        static.read_text().replace("\n  private:\n", f'\n  open: {{address: "{address}"}}\n  private:\n', 1)
    )
    said = {
        "X-Tekup-Gate": made.gate_proof("vault"),
        "X-Tekup-Client": "dev",
        "X-Tekup-Grant": made.grant("dev"),
        "X-Tekup-Service": "vault",
    }
    http = {
        "middlewares": {
            "open-as-dev": {"headers": {"customRequestHeaders": said}},
            "open-path": {"replacePath": {"path": "/mcp"}},
        },
        "services": {"open": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"}]}}},
        "routers": {
            "open": {
                "entryPoints": ["open"],
                "rule": "PathPrefix(`/`)",
                "middlewares": ["open-as-dev", "open-path"],
                "service": "open",
            }
        },
    }
    made.gate.write("dynamic/open.yml", json.dumps({"http": http}))


def _ready(port: int) -> bool:
    return is_open(port) and httpx.get(f"http://127.0.0.1:{port}/ready", timeout=20, trust_env=False).status_code == 200


def _works(made: World) -> bool:
    try:
        return made.tool("dev", "vault_peek", {"mark": "first"}) == "peeked"
    except AssertionError:
        return False


def ended(made: World) -> None:
    """End Traefik in order, so that it writes what it holds of its log."""
    if process := made.gate.process:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        made.gate.process = None
