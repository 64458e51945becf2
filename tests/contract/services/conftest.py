"""Real instances of the three services, called through the SDK's client as the gate would call them."""

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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from tests.support.lines import whole_lines
from tests.support.programs import program

ROOT = Path(__file__).parents[3]
START_S = 60.0
SHORT: dict[str, Any] = {"MCP_BROWSER_PAGES_PER_CLIENT": 3, "MCP_BROWSER_CALL_S": 8, "MCP_BROWSER_NAVIGATION_S": 4}


def _grant(client: str, roots: tuple[str, ...], hosts: tuple[str, ...], access: str = "all") -> str:
    payload = {"v": 1, "client": client, "key": "k1", "allow": ["*"], "cohort": "", "roots": roots, "hosts": hosts}
    payload["access"] = access
    return f"{base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b'=').decode()}.tag"


@dataclass(frozen=True)
class Said:
    """A tool's answer."""

    result: CallToolResult

    @property
    def error(self) -> str:
        """The text of an error; "" when it was none."""
        return self.text if self.result.is_error else ""

    @property
    def text(self) -> str:
        return "".join(block.text for block in self.result.content if isinstance(block, TextContent))

    @property
    def facts(self) -> dict[str, Any]:
        assert not self.result.is_error, self.text
        assert isinstance(self.result.structured_content, dict)
        return self.result.structured_content


@dataclass
class Session:
    """One client's connection."""

    client: Client

    async def call(self, tool: str, **arguments: object) -> Said:
        try:
            result = await self.client.call_tool(tool, arguments)
        except MCPError as error:
            return Said(CallToolResult(content=[TextContent(type="text", text=error.message)], is_error=True))
        assert isinstance(result, CallToolResult)
        return Said(result)


@dataclass
class Instance:
    """A running instance."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    key: bytes

    def where(self) -> dict[str, Any]:
        """What it logged when it began to serve; waits for it."""
        deadline = time.monotonic() + START_S
        while True:
            for line in whole_lines(self.log):
                if line.startswith("{") and json.loads(line)["event"] == "serving":
                    found: dict[str, Any] = json.loads(line)
                    return found
            assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"{self.name} does not serve: {self.log.read_text()}"
            time.sleep(0.05)

    @asynccontextmanager
    async def session(
        self,
        client: str = "dev",
        roots: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        access: str = "all",
    ) -> AsyncIterator[Session]:
        headers = {
            "x-tekup-gate": hmac.digest(self.key, b"gate", "sha256").hex(),
            "x-tekup-client": client,
            "x-tekup-service": self.name,
        }
        if not client.startswith("~"):  # one of the platform's own has none
            headers["x-tekup-grant"] = _grant(client, roots, hosts, access)
        url = f"http://127.0.0.1:{self.where()['port']}/mcp"
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode="2026-07-28") as connected,
        ):
            yield Session(connected)

    async def ready(self) -> int:
        async with httpx.AsyncClient(timeout=10) as http:
            return (await http.get(f"http://127.0.0.1:{self.where()['admin_port']}/ready")).status_code

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


class Starter:
    """Starts instances, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Instance] = []

    def start(self, name: str, *, module: str = "", **settings: object) -> Instance:
        key = secrets.token_bytes(32)
        number = len(self._running)
        secrets_file = self.folder / f"{name}-{number}.secrets.json"
        secrets_file.write_text(json.dumps({"service": name, "keys": [key.hex()]}))
        secrets_file.chmod(0o600)
        log = self.folder / f"{name}-{number}.log"
        given: dict[str, object] = {
            "MCP_SECRETS_FILE": secrets_file,
            "MCP_DRAIN_QUIET_S": 0.2,
            "MCP_DRAIN_DEADLINE_S": 5,
            **settings,
        }
        if name == "browser":
            given["MCP_BROWSER_EXECUTABLE"] = program("chromium")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module or f"services.{name}"],
                env={"PATH": os.environ["PATH"], **{variable: str(value) for variable, value in given.items()}},
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(Instance(name, process, log, key))
        return self._running[-1]

    def end(self) -> None:
        for instance in self._running:
            if instance.process.poll() is None:
                os.killpg(instance.process.pid, signal.SIGKILL)
            instance.process.wait(10)


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts instances; all are gone at the end."""
    made = Starter(tmp_path_factory.mktemp("instances"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a few files."""
    root = tmp_path_factory.mktemp("tree")
    (root / "src").mkdir()
    (root / "src/reader.py").write_text("def readFileContent(path):\n    return path.read_text()\n")
    (root / "mine").mkdir()
    (root / "mine/note.txt").write_text("one\ntwo\nthree\n")
    (root / "out").symlink_to("/etc")
    return root


@pytest.fixture(scope="module")
def filesystem(starter: Starter, tree: Path) -> Instance:
    return starter.start("filesystem", MCP_FILESYSTEM_ROOTS=tree)


@pytest.fixture(scope="module")
def search(starter: Starter, tree: Path) -> Instance:
    return starter.start("search", MCP_SEARCH_ROOTS=tree)


@pytest.fixture(scope="session")
def browser(starter: Starter) -> Instance:
    return starter.start("browser", **SHORT)


@dataclass
class Web:
    """A web server that answers every path with one page."""

    port: int = 0
    body: str = "<title>home</title><h1>Hello</h1><a href='/next'>next</a><input aria-label=Name>"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            raw = self.body.encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(raw)}\r\n\r\n"
            writer.write(head.encode() + raw)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    made = Web()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
