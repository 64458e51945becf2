"""A real Traefik with our templates and plugin, on free ports; its tables written by hand, or by an agent."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import ssl
import string
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest

from compose.local.edge import edge_values
from compose.local.settings import Settings
from compose.local.tracing import gate_tracing
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
MODERN = "2026-07-28"
MAC = "00112233445566778899aabbccddeeff" * 2
SERVICE_KEYS = {name: f"{at:02x}" * 32 for at, name in enumerate(("alpha", "beta", "hub", "control-plane"), 1)}
SECRETS = {"mac": [MAC], "services": {name: [key] for name, key in SERVICE_KEYS.items()}}
KEYS = {name: f"tk_{name}-1_{name.encode().hex():0<48}" for name in ("dev", "narrow", "gone", "late")}


def wait_until(true: Callable[[], object], what: str | Callable[[], str], within_s: float = 30.0) -> None:
    """Polls a condition, with a bound; `what` may be a function, which says what there was at the end."""
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.01)


def sign(key_hex: str, text: str) -> bytes:
    """HMAC-SHA256 under the decoded key."""
    return hmac.new(bytes.fromhex(key_hex), text.encode(), hashlib.sha256).digest()


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


class Maker:
    """Makes what callers send."""

    keys = KEYS
    secrets = SECRETS
    wait = staticmethod(wait_until)

    @staticmethod
    def grant(client: str, allow: list[str], key: str | None = None, mac: str = MAC) -> str:
        """A grant as the agent makes it."""
        said = {
            "v": 1,
            "client": client,
            "key": key or f"{client}-1",
            "allow": allow,
            "cohort": "",
            "roots": [],
            "hosts": [],
            "access": "all",
        }
        body = b64(json.dumps(said, separators=(",", ":")).encode())
        return f"{body}.{b64(sign(mac, body))}"

    @staticmethod
    def handle(service: str, instance: str, client: str) -> str:
        """A handle as the kit makes it."""
        text = f"{instance}.{b64(b'0123456789abcdef')}"
        return f"{text}.{b64(sign(SERVICE_KEYS[service], f'{text}.{client}'))[:22]}"

    @staticmethod
    def proof(caller: str) -> dict[str, str]:
        """The headers by which a caller proves its name on the internal entrypoint."""
        return {"X-Tekup-Caller": caller, "X-Tekup-Proof": sign(SERVICE_KEYS[caller], "caller").hex()}

    @staticmethod
    def modern(method: str = "tools/list", name: str = "", client: str = "dev") -> dict[str, str]:
        """Headers of a call of the modern era."""
        sent = {"Authorization": f"Bearer {KEYS[client]}", "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        return sent | ({"Mcp-Name": name} if name else {})


@dataclass
class Answer:
    """What came back: from the gate (`error`) or from a backend (`name`, `headers`)."""

    status: int
    reply: httpx.Response

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        said = self.reply.json()
        assert isinstance(said, dict)
        return said

    @property
    def name(self) -> str:
        """The backend that answered."""
        return str(self.body["name"])

    @property
    def headers(self) -> dict[str, str]:
        """What the backend received, names in lower case."""
        pairs = self.body["headers"]
        assert isinstance(pairs, list)
        return {str(key).lower(): str(value) for key, value in pairs}

    @property
    def error(self) -> dict[str, object]:
        """The JSON-RPC error of the gate."""
        assert self.reply.headers["content-type"] == "application/json"
        assert self.body["jsonrpc"] == "2.0"
        assert self.body["id"] is None
        said = self.body["error"]
        assert isinstance(said, dict)
        return said

    @property
    def code(self) -> object:
        """Its code."""
        return self.error["code"]


@dataclass
class Gate:
    """One gate's folder and its Traefik."""

    folder: Path
    public: str
    internal: str
    private: str
    http: httpx.Client
    process: subprocess.Popen[bytes] | None = None
    backends: dict[str, tuple[int, subprocess.Popen[bytes]]] = field(default_factory=dict)
    serial: int = 0
    verify: ssl.SSLContext | bool = True
    """Whom its callers trust."""

    # -- files

    def write(self, path: str, content: str) -> None:
        """Replaces a file as the agent does."""
        target = self.folder / path
        spare = target.with_name(f".{target.name}.tmp")
        with spare.open("w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        spare.rename(target)

    def services(
        self,
        lanes: dict[str, dict[str, float]],
        instances: dict[str, dict[str, str]] | None = None,
        **more: dict[str, object],
    ) -> None:
        """Writes services.json; the first lane is the stable version. `more` are further members, by service."""
        self.serial += 1
        table = {
            name: {
                "stable": next(iter(weights), ""),
                "lanes": [{"target": target, "weight_pct": weight} for target, weight in weights.items()],
                "split": "request",
                "instances": (instances or {}).get(name, {}),
                **more.get(name, {}),
            }
            for name, weights in lanes.items()
        }
        self.write(
            "tables/services.json", json.dumps({"serial": self.serial, "epoch": 1, "number": 17, "services": table})
        )

    def clients(
        self,
        rights: dict[str, list[str]],
        cohorts: dict[str, str] | None = None,
        *,
        more: dict[str, dict[str, object]] | None = None,
        gates: int = 1,
        **keys: dict[str, object],
    ) -> None:
        """Writes clients.json with one key per client; `more` and `keys` are members of clients and of their keys."""
        self.serial += 1
        table = {
            name: {"allow": allow, "cohort": (cohorts or {}).get(name, ""), **(more or {}).get(name, {})}
            for name, allow in rights.items()
        }
        known = {
            f"{name}-1": {
                "client": name,
                "hash": hashlib.sha256(KEYS[name].encode()).hexdigest(),
                "expires": 0,
                "revoked": 0,
                "grant": Maker.grant(name, allow),
            }
            | keys.get(name, {})
            for name, allow in rights.items()
        }
        said = {"serial": self.serial, "epoch": 1, "number": 17, "gates": gates, "clients": table, "keys": known}
        self.write("tables/clients.json", json.dumps(said))

    def routes(self, services: dict[str, dict[str, list[str]]], mirrors: tuple[str, ...] = ()) -> None:
        """Writes routes.yml: service → version target → instances' names, in the shape of traefik/README.md.

        `mirrors` are targets with copies. Each writing differs from the last, so Traefik reloads and begins with every
        server healthy.
        """
        self.serial += 1
        routers: dict[str, object] = {"placeholder": router(f"~{self.serial}") | {"service": "nobody"}}
        parts: dict[str, object] = {}
        for name, versions in services.items():
            stable = next(iter(versions))
            parts[f"{name}.any"] = {"failover": {"service": f"{name}.all", "fallback": f"{name}.last"}}
            everybody = [each for names in versions.values() for each in names]
            parts[f"{name}.last"] = self.balancer(everybody)
            parts[f"{name}.all"] = {
                "weighted": {
                    "healthCheck": {},
                    "services": [{"name": f"{target}.lb", "weight": len(names)} for target, names in versions.items()],
                }
            }
            for target, names in versions.items():
                routers[target] = router(target)
                parts[target] = {
                    "failover": {"service": f"{target}.lb", "fallback": f"{name}.any" if target == stable else stable}
                }
                parts[f"{target}.lb"] = self.balancer(names, "/ready", 2)
                for each in names:
                    one = f"{target}_{each}"
                    routers[one] = router(one)
                    parts[one] = {
                        "failover": {"service": f"{one}.lb", "fallback": f"{name}.any"},
                    }
                    parts[f"{one}.lb"] = self.balancer([each], "/health")
        for mirror in mirrors:
            main, copied = mirror.split("~")
            routers[mirror] = router(mirror) | {"middlewares": []}
            parts |= self.mirroring(mirror, parts[main], services[main.split("_")[0]][copied])
        said = {"routers": routers, "services": parts} if parts else {"routers": routers}
        self.write("dynamic/routes.yml", json.dumps({"http": said}))
        wait_until(lambda: self.routed(set(routers), self.serial), f"routers {sorted(routers)} enabled")

    def balancer(self, names: list[str], check: str = "", attempts: int = 0) -> dict[str, object]:
        """One balancer over backends, with checks if told."""
        servers = [{"url": f"http://127.0.0.1:{self.backends[name][0]}"} for name in names]
        parts: dict[str, object] = {"serversTransport": "instances", "servers": servers}
        if check:
            parts["healthCheck"] = {"path": check, "timeout": "1s", "interval": "1s", "unhealthyInterval": "1s"}
        if attempts:
            parts["passiveHealthCheck"] = {"maxFailedAttempts": attempts, "failureWindow": "2s"}
        return {"loadBalancer": parts}

    def mirroring(self, target: str, main: object, names: list[str]) -> dict[str, object]:
        """The services of a target with copies, which go to these backends."""
        assert isinstance(main, dict)
        copies = {"name": f"{target}.copies", "percent": 100}
        return {
            target: {"mirroring": {"service": f"{target}.main", "maxBodySize": 65536, "mirrors": [copies]}},
            f"{target}.main": {"middlewares": ["retry"], **main},
            f"{target}.copies": {"middlewares": ["copies", "copy"], **self.balancer(names)},
        }

    def routed(self, names: set[str], serial: int) -> bool:
        """Whether exactly these children, of this writing, stand enabled in Traefik."""
        said = self.http.get(f"{self.private}/api/http/routers", params={"per_page": "1000"}).json()
        mine = {item["name"].removesuffix("@file"): item for item in said if item.get("parentRefs")}
        if mine.keys() - {"last-foreign"} != names | {"last"} or f"~{serial}`" not in mine["placeholder"]["rule"]:
            return False
        return {item["status"] for item in mine.values()} == {"enabled"}

    # -- processes

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts Traefik."""
        command = [str(Path(sys.executable).with_name("traefik")), "--configFile=traefik.yml"]
        with (self.folder / "traefik.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        return self.process

    def start(self) -> None:
        """Starts Traefik and waits until it answers."""
        self.launch()
        wait_until(self.answers, f"Traefik up; see {self.folder}/traefik.log")

    def answers(self) -> bool:
        """Whether the plugin's private role answers."""
        with suppress(httpx.HTTPError):
            return self.http.get(f"{self.private}/tekup/state").status_code == 200
        return False

    def stop(self) -> None:
        """Ends Traefik."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def backend(self, name: str) -> None:
        """Starts a backend, on its old port if it had one."""
        port = self.backends[name][0] if name in self.backends else free_port()
        program = subprocess.Popen([sys.executable, str(Path(__file__).with_name("backend.py")), str(port), name])
        self.backends[name] = (port, program)
        wait_until(lambda: is_open(port), f"backend {name} up")

    def seen(self, name: str) -> dict[str, int]:
        """How many calls and copies came to a backend."""
        said = self.http.get(f"http://127.0.0.1:{self.backends[name][0]}/seen").json()
        return Counter(said["seen"])

    def last(self, name: str, kind: str) -> dict[str, str]:
        """Headers of the last call or copy that came to a backend, names in lower case."""
        said = self.http.get(f"http://127.0.0.1:{self.backends[name][0]}/seen").json()
        return dict(said["last"].get(kind, {}))

    def kill(self, name: str) -> None:
        """Kills a backend with -9."""
        program = self.backends[name][1]
        program.kill()
        program.wait()

    # -- calls

    def call(
        self, path: str = "/mcp", headers: object = None, method: str = "POST", to: str = "", content: object = b"{}"
    ) -> Answer:
        """One call, to the public entrypoint unless told; headers as a dict or as pairs."""
        sent = Maker.modern() if headers is None else headers
        reply = self.http.request(method, f"{to or self.public}{path}", headers=sent, content=content)  # type: ignore[arg-type]
        return Answer(reply.status_code, reply)

    def state(self) -> dict[str, dict[str, object]]:
        """What the plugin reports."""
        said = self.http.get(f"{self.private}/tekup/state").json()
        assert isinstance(said, dict)
        return said

    def in_force(self) -> None:
        """Waits until the plugin reports the newest serial that was written."""
        newest = self.serial
        wait_until(
            lambda: newest in {table.get("serial") for table in self.state().values()}, f"serial {newest} in force"
        )


class Load:
    """Steady calls from a few threads, every answer counted; a context manager."""

    def __init__(self, gate: Gate, path: str, headers: dict[str, str], threads: int = 4) -> None:
        self.seen: Counter[str] = Counter()
        self._ended = threading.Event()
        self._gate = gate
        url = f"{gate.public}{path}"
        self._work = [threading.Thread(target=self._call, args=(url, headers)) for _ in range(threads)]

    def _call(self, url: str, headers: dict[str, str]) -> None:
        verify = self._gate.verify
        with httpx.Client(timeout=20, trust_env=False, headers=headers, verify=verify) as client:
            while not self._ended.is_set():
                try:
                    reply = client.post(url, content=b"{}")
                    self.seen[reply.json()["name"] if reply.status_code == 200 else f"HTTP {reply.status_code}"] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1

    @property
    def total(self) -> int:
        """Calls that ended."""
        return sum(self.seen.values())

    @property
    def lost(self) -> dict[str, int]:
        """Calls that no backend answered."""
        return {name: count for name, count in self.seen.items() if name not in self._gate.backends}

    def more(self, calls: int) -> None:
        """Waits for that many further calls."""
        until = self.total + calls
        wait_until(lambda: self.total >= until, f"{calls} further calls; so far {dict(self.seen)}", 30)

    def __enter__(self) -> Self:
        for thread in self._work:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._work:
            thread.join()


def router(target: str) -> dict[str, object]:
    """A target's child router."""
    rule = f"Header(`X-Tekup-Route`, `{target}`)"
    parents = ["public@file", "internal@file", "bearers@file", "foreign@file"]
    return {"parentRefs": parents, "rule": rule, "service": target, "middlewares": ["retry"]}


def bearers(folder: Path) -> dict[str, object]:
    """A parent for calls of which forwardAuth has made a grant, without it: the header X-Test-Foreign leads to it."""
    policy = {"role": "foreign", "tables": f"{folder}/tables", "resource": "https://mcp.example"}
    parent = {
        "entryPoints": ["public"],
        "rule": "Header(`X-Test-Foreign`, `1`)",
        "priority": 10_000,
        "middlewares": ["policy-bearers", "lost"],
    }
    return {"middlewares": {"policy-bearers": {"plugin": {"policy": policy}}}, "routers": {"bearers": parent}}


def is_open(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lay_out(folder: Path, *, collector: str = "", share: float = 1.0, **settings: object) -> Gate:
    """Renders the templates and copies the plugin, as the environment does; `settings` are the edge's."""
    ports = [free_port() for _ in range(3)]
    values = {
        name: f"127.0.0.1:{port}"
        for name, port in zip(("GATEWAY_ADDRESS", "INTERNAL_ADDRESS", "PRIVATE_ADDRESS"), ports, strict=True)
    }
    values |= dict.fromkeys(("ALLOWED_HOSTS", "ALLOWED_ORIGINS", "OAUTH_RESOURCE", "OAUTH_SCOPE"), "")
    given = Settings.model_validate(settings)
    values |= {"TRACING": gate_tracing(collector, share)}
    values |= {"MTLS": str(given.mtls == "on").lower()}
    values |= {"GATE_DIR": str(folder), "POLICY_MAX_AGE_S": str(given.gate_policy_max_age_s), **edge_values(given)}
    source, plugin = ROOT / "traefik", folder / "plugins-local/src/tekup.dev/policy"
    for each in (folder / "dynamic", folder / "tables", plugin):
        each.mkdir(parents=True)
    for template, target in (("traefik.yml.tmpl", "traefik.yml"), ("gate.yml.tmpl", "dynamic/gate.yml")):
        (folder / target).write_text(string.Template((source / template).read_text()).substitute(values))
    (folder / "dynamic/bearers.yml").write_text(json.dumps({"http": bearers(folder)}))
    for each in (source / "plugin").iterdir():
        if not each.name.endswith("_test.go") and each.is_file():
            shutil.copy(each, plugin)
    public, internal, private = (f"http://127.0.0.1:{port}" for port in ports)
    if settings.get("tls", "off") != "off":
        public = public.replace("http:", "https:")
    return Gate(folder, public, internal, private, httpx.Client(timeout=20, trust_env=False))


def close(gate: Gate) -> None:
    """Leaves no process behind."""
    gate.stop()
    for name in gate.backends:
        gate.kill(name)
    gate.http.close()
