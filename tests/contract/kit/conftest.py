"""Real instances of services on the kit, a real Consul, and a stand-in for the gate's internal entrypoint."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.types import Message, Receive, Scope, Send

from services.common.listen import bind, listening
from services.common.signing import Keyring
from tests.support.consul_process import ConsulProcess
from tests.support.lines import whole_lines

ROOT = Path(__file__).parents[3]
DEMO = Path(__file__).with_name("demo_service.py")
MODERN = "2026-07-28"


async def eventually(
    check: Callable[[], Awaitable[Any]], *, within_s: float = 10.0, what: str = "the condition"
) -> Any:
    """Wait until `check` gives something true, and return it."""
    deadline = time.monotonic() + within_s
    while True:
        found = await check()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true within {within_s:g} s"
        await asyncio.sleep(0.02)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def grant_of(client: str, allow: tuple[str, ...], **more: object) -> str:
    payload = {
        "v": 1,
        "client": client,
        "key": "k1",
        "allow": list(allow),
        "cohort": "",
        "roots": [],
        "hosts": [],
    } | more
    return f"{b64(json.dumps(payload).encode())}.tag"


@dataclass
class Instance:
    """One running instance of a service."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    key: bytes
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.where['port']}/mcp"

    @property
    def instance(self) -> str:
        return str(self.where["instance"])

    def admin(self, path: str) -> str:
        return f"http://127.0.0.1:{self.where['admin_port']}{path}"

    async def told(self, method: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """What it answers the control plane to a method of our own."""
        sent = {**self.headers("~control-plane", None), "mcp-protocol-version": "2026-07-28", "mcp-method": method}
        asked = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {}}
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.post(self.url, headers=sent | (headers or {}), json=asked)

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in whole_lines(self.log):
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == name]

    async def event(self, name: str, count: int = 1, *, within_s: float = 20.0) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            found = self.events(name)
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None or name == "stopped", f"{self.name} ended: {self.log.read_text()}"
            return None

        event: dict[str, Any] = await eventually(look, within_s=within_s, what=f"event {name} of {self.name}")
        return event

    def headers(self, client: str = "dev", allow: tuple[str, ...] | None = ("*",)) -> dict[str, str]:
        """What the gate would send."""
        sent = {
            "x-tekup-gate": hmac.digest(self.key, b"gate", "sha256").hex(),
            "x-tekup-client": client,
            "x-tekup-service": self.name,
        }
        if allow is not None:
            sent["x-tekup-grant"] = grant_of(client, allow)
        return sent

    @asynccontextmanager
    async def client(
        self,
        client: str = "dev",
        allow: tuple[str, ...] | None = ("*",),
        *,
        mode: str = MODERN,
        extra: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Client]:
        """The SDK's client, as if behind the gate."""
        headers = {**self.headers(client, allow), **(extra or {})}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode) as session,
        ):
            yield session

    async def metric(self, line_start: str) -> float:
        async with httpx.AsyncClient() as http:
            text = (await http.get(self.admin("/metrics"))).text
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(line_start)]
        return sum(values)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self, within_s: float = 10.0) -> int:
        async def look() -> bool:
            return self.process.poll() is not None

        await eventually(look, within_s=within_s, what=f"the end of {self.name}")
        return int(self.process.returncode)


class Services:
    """Starts instances and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Instance] = []
        self.keys: dict[str, bytes] = {}

    def key(self, name: str) -> bytes:
        return self.keys.setdefault(name, secrets.token_bytes(32))

    def spawn(self, name: str = "demo", *, argv: list[str] | None = None, **settings: object) -> Instance:
        """Start an instance; settings by their variable's name."""
        key = self.key(name)
        secrets_file = self._folder / f"{name}.secrets.json"
        secrets_file.write_text(json.dumps({"service": name, "keys": [key.hex()]}))
        secrets_file.chmod(0o600)
        given = {
            "MCP_SECRETS_FILE": secrets_file,
            "MCP_DRAIN_QUIET_S": 0.3,
            "PYTHONPATH": ROOT,
            "PATH": os.environ["PATH"],
            **settings,
        }
        log = self._folder / f"{name}-{len(self._running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                argv or [sys.executable, str(DEMO), name],
                env={variable: str(value) for variable, value in given.items() if value is not None},
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        instance = Instance(name, process, log, key)
        self._running.append(instance)
        return instance

    async def start(self, name: str = "demo", *, argv: list[str] | None = None, **settings: object) -> Instance:
        """Start an instance and wait until it serves."""
        instance = self.spawn(name, argv=argv, **settings)
        instance.where = await instance.event("serving", within_s=30)
        return instance

    async def start_hub(self, gate: StandInGate, **settings: object) -> Instance:
        """Start a hub before `gate`; it waits long for a service, because a busy test machine answers late."""
        argv = [sys.executable, "-m", "services.hub"]
        given = {"MCP_GATE_INTERNAL_URL": gate.url, "MCP_HUB_SERVICE_DEADLINE_S": 20, **settings}
        return await self.start("hub", argv=argv, **given)

    def end(self) -> None:
        for instance in self._running:
            if instance.process.poll() is None:
                os.killpg(instance.process.pid, signal.SIGKILL)
            instance.process.wait(10)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Starts instances of the demo service and of the hub."""
    made = Services(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Starts instances that several tests use and none changes: a start takes seconds."""
    made = Services(tmp_path_factory.mktemp("shared"))
    yield made
    made.end()


@pytest.fixture(scope="session")
def demo(shared: Services) -> Instance:
    """An instance of the demo service that several tests use."""
    return asyncio.run(shared.start())


@pytest.fixture(scope="session")
def pair(shared: Services) -> tuple[Instance, Instance]:
    """The demo service under two names, for several tests of the hub."""

    async def start() -> tuple[Instance, Instance]:
        return await asyncio.gather(shared.start("apple"), shared.start("pear"))

    return asyncio.run(start())


class Consul(ConsulProcess):
    """A Consul server that loses its data when it is killed."""

    def kill(self) -> None:
        super().kill()
        self.lose_data()

    async def entries(self, service: str) -> list[dict[str, Any]]:
        """Catalog and health of a service's instances."""
        async with httpx.AsyncClient() as http:
            found: list[dict[str, Any]] = (await http.get(f"{self.url}/v1/health/service/mcp-{service}")).json()
        return found


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    """A real Consul server."""
    with Consul(tmp_path) as server:
        yield server


@dataclass
class StandInGate:
    """The gate's internal entrypoint as docs/contracts.md has it, carrying calls to instances given by hand."""

    hub_key: bytes
    url: str = ""
    instances: dict[str, Instance] = field(default_factory=dict)
    calls: list[tuple[str, str, str | None]] = field(default_factory=list)
    hung: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    answers: dict[str, tuple[int, bytes, str]] = field(default_factory=dict)
    cancelled: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if headers.get("x-tekup-proof") != Keyring((self.hub_key,)).caller_proof():
            await _answer(send, 403, b'{"jsonrpc":"2.0","id":null,"error":{"code":403,"message":"no proof"}}')
            return
        if scope["path"] == "/tekup/services":
            stable = {name: f"{name}_1-0-0" for name in [*self.instances, *self.answers]} | dict.fromkeys(self.down, "")
            found = {"services": {name: {"stable": target} for name, target in stable.items()}}
            await _answer(send, 200, json.dumps(found).encode())
            return
        await self._carry(scope, headers, receive, send)

    async def _carry(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        service = scope["path"].split("/")[1]
        method = headers["mcp-method"]
        self.calls.append((service, method, headers.get("mcp-name")))
        body = await _body(receive)
        work = asyncio.create_task(self._forward(service, headers, body, send))
        gone = asyncio.create_task(_disconnected(receive))
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.cancelled += 1
        for task in (work, gone):
            task.cancel()
        results = await asyncio.gather(work, gone, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _forward(self, service: str, headers: dict[str, str], body: bytes, send: Send) -> None:
        if service in self.hung:
            await asyncio.sleep(3600)
        if service in self.answers:
            status, content, content_type = self.answers[service]
            await _answer(send, status, content, content_type)
            return
        instance = self.instances[service]
        sent = {name: value for name, value in headers.items() if name.startswith(("mcp-", "accept", "content-type"))}
        grant = headers.get("x-tekup-grant")
        client = json.loads(base64.urlsafe_b64decode(grant.split(".")[0] + "=="))["client"] if grant else "~hub"
        sent |= instance.headers(client, None) | ({"x-tekup-grant": grant} if grant else {})
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream("POST", instance.url, headers=sent, content=body) as answer,
        ):
            kind = answer.headers["content-type"].encode()
            await send(
                {"type": "http.response.start", "status": answer.status_code, "headers": [(b"content-type", kind)]}
            )
            async for chunk in answer.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _answer(send: Send, status: int, body: bytes, content_type: str = "application/json") -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message: Message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
async def gate(services: Services) -> AsyncIterator[StandInGate]:
    """The stand-in for the gate's internal entrypoint."""
    stand_in = StandInGate(services.key("hub"))
    listener = bind("127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{listener.port}"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(listening(stand_in, listener))
        yield stand_in


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[Any]]:
    """Bounded waiting for a condition."""
    return eventually
