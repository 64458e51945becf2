"""Published servers of several authors, SDKs and ages, unchanged behind the bridge, through gate and hub in both eras:
list, call, error, progress, a big answer, a caller who leaves, a child killed in the middle of a call, a long pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult, TextContent

from services.hub.finding import FIND
from tests.published.servers import NETWORK, SERVERS, Published, filled, furnish, public
from tests.support.load import META, VERSION
from tests.support.metrics import in_flight, registered, tool_calls
from tests.support.programs import program
from tests.support.sdk import ERAS, LEGACY, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.feature("B7", "B11", "A13"), pytest.mark.timeout(600)]
SHORT = ("time", "everything")
"""Those that are tried each time; the others in the long run."""
PAUSE_S = 130.0
"""Longer than every time-out on the way: Traefik gives up an idle connection after 90 s, our servers after 120."""
WITHIN_S = 60.0
LOST = "look before you call again"
NOT_YET = ("the bridged server", "has no live instance")


def named(one: Published) -> str:
    """What it is called in the environment, where two names are taken."""
    return {"files": "shelf", "docs": "library"}.get(one.name, one.name)


@dataclass
class Shelf:
    """The servers that have been added so far."""

    environment: Any
    folder: Path
    added: list[str] = field(default_factory=list)

    def with_server(self, one: Published) -> None:
        """Add it, unless it is there."""
        if named(one) in self.added:
            return
        options = [
            part for name, value in filled(one.env, self.folder).items() for part in ("--env", f"{name}={value}")
        ]
        self.added.append(named(one))
        done = self.environment.tekup("add", named(one), *options, "--", *one.argv(self.folder))
        assert done.returncode == 0, done.stderr

    def bridge(self, one: Published) -> psutil.Process:
        """Its instance."""
        return psutil.Process(self.environment.process(named(one)).pid)

    def children(self, one: Published) -> list[psutil.Process]:
        """The server's own processes, below the launcher."""
        launchers = self.bridge(one).children()
        return [child for launcher in launchers for child in launcher.children(recursive=True)]

    async def cancelled(self, one: Published, tool: str) -> int:
        """How many calls of a tool its caller has left."""
        return (await tool_calls(self.environment, named(one), tool, "cancelled")).total()

    async def busy(self, one: Published) -> bool:
        """Whether its instance is serving a request."""
        return any([await in_flight(found) for found in await registered(self.environment, named(one), passing=False)])

    @asynccontextmanager
    async def client(self, mode: str) -> AsyncIterator[Client]:
        """Somebody at the address of all services."""
        async with sdk_client(f"{self.environment.gateway_url}/mcp", self.environment.key, mode) as client:
            yield client


@pytest.fixture(scope="module")
def shelf(environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The environment, into which servers are put as they are wanted; they are gone afterwards."""
    folder = tmp_path_factory.mktemp("shelf")
    furnish(folder)
    made = Shelf(environment, folder)
    yield made
    for name in made.added:
        environment.tekup("remove", name)


@pytest.fixture(
    params=[pytest.param(one, id=one.name, marks=() if one.name in SHORT else pytest.mark.long) for one in SERVERS]
)
def one(request: pytest.FixtureRequest, shelf: Shelf) -> Published:
    """One of them, served."""
    found: Published = request.param
    shelf.with_server(found)
    return found


@dataclass(frozen=True)
class Said:
    """An answer."""

    text: str
    error: bool


async def call(client: Client, tool: str, arguments: dict[str, Any], **options: Any) -> Said:
    try:
        result = await client.call_tool(tool, arguments, **options)
    except MCPError as error:
        return Said(error.message, error=True)
    assert isinstance(result, CallToolResult)
    return Said(
        "".join(block.text for block in result.content if isinstance(block, TextContent)), bool(result.is_error)
    )


async def until_answered(client: Client, tool: str, arguments: dict[str, Any]) -> Said:
    """A call until it is answered by a child that runs."""
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    said = await call(client, tool, arguments)
    while any(words in said.text for words in NOT_YET):
        assert asyncio.get_running_loop().time() < deadline, said.text
        await asyncio.sleep(0.2)
        said = await call(client, tool, arguments)
    return said


@pytest.mark.parametrize("mode", ERAS)
async def test_it_lists_answers_refuses_tells_of_progress_and_answers_at_length(
    shelf: Shelf, one: Published, mode: str
) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        told.append(progress)

    (tool, arguments, answer), (wrong, bad) = one.call, one.wrong
    async with shelf.client(mode) as client:
        names = [found.name for found in (await client.list_tools()).tools]
        if FIND in names:  # so many are on the shelf that the list would be too long for anybody
            assert public(named(one), tool) in (await call(client, FIND, {"query": public(named(one), tool)})).text
        else:
            assert public(named(one), tool) in names
        said = await call(client, public(named(one), tool), filled(arguments, shelf.folder), progress_callback=note)
        assert answer in said.text
        assert one.name in NETWORK or not said.error
        refused = await call(client, public(named(one), wrong), filled(bad, shelf.folder))
        assert refused.error or "error" in refused.text.lower(), refused
        if one.slow is not None:
            assert not (await call(client, public(named(one), one.slow[0]), one.slow[1], progress_callback=note)).error
            assert len(told) >= 3
            assert told == sorted(told)
        if one.big is not None:
            long = await call(client, public(named(one), one.big[0]), filled(one.big[1], shelf.folder))
            assert not long.error
            assert len(long.text) >= one.big[2]


def body(mode: str, tool: str, arguments: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """A call as it is on the wire."""
    sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if mode != LEGACY:
        sent |= {"MCP-Protocol-Version": VERSION, "Mcp-Method": "tools/call", "Mcp-Name": tool}
        params["_meta"] = META
    return sent, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@contextlib.contextmanager
def held(shelf: Shelf, one: Published) -> Iterator[list[psutil.Process]]:
    """Its server stopped in the middle of whatever it does."""
    children = shelf.children(one)
    assert children
    for child in children:
        child.send_signal(signal.SIGSTOP)
    try:
        yield children
    finally:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGCONT)


@pytest.mark.long
@pytest.mark.parametrize("mode", ERAS)
async def test_a_caller_who_hangs_up_has_cancelled_and_the_next_is_answered(
    shelf: Shelf, one: Published, mode: str
) -> None:
    tool, arguments, answer = one.call
    name = public(named(one), tool)
    sent, asked = body(mode, name, filled(arguments, shelf.folder))
    sent["Authorization"] = f"Bearer {shelf.environment.key}"
    before = await shelf.cancelled(one, name)
    with held(shelf, one):
        async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=1)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post(f"{shelf.environment.gateway_url}/mcp", headers=sent, json=asked)
        deadline = asyncio.get_running_loop().time() + WITHIN_S
        while await shelf.cancelled(one, name) != before + 1:
            assert asyncio.get_running_loop().time() < deadline, "the call was not cancelled"
            await asyncio.sleep(0.05)
    async with shelf.client(mode) as client:
        assert answer in (await until_answered(client, name, filled(arguments, shelf.folder))).text


@pytest.mark.long
@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_killed_in_the_middle_of_a_call_is_told_and_started_anew(
    shelf: Shelf, one: Published, mode: str
) -> None:
    tool, arguments, answer = one.call
    name, given = public(named(one), tool), filled(arguments, shelf.folder)
    async with shelf.client(mode) as client:
        await until_answered(client, name, given)  # the era before has killed it, too
        with held(shelf, one) as children:
            waiting = asyncio.create_task(call(client, name, given))
            while not await shelf.busy(one):
                assert not waiting.done()
                await asyncio.sleep(0.05)
            for child in children:
                child.kill()
            lost = await waiting
        assert lost.error
        assert LOST in lost.text, lost.text
        assert answer in (await until_answered(client, name, given)).text
        assert not {child.pid for child in children} & {child.pid for child in shelf.children(one)}


@pytest.mark.long
async def test_all_of_them_answer_after_a_pause_longer_than_every_time_out(shelf: Shelf) -> None:
    for one in SERVERS:
        shelf.with_server(one)
    async with AsyncExitStack() as open_:
        clients = [await open_.enter_async_context(shelf.client(mode)) for mode in ERAS]

        async def answered() -> dict[str, list[int]]:
            for client in clients:
                for one in SERVERS:
                    tool, arguments, answer = one.call
                    said = await call(client, public(named(one), tool), filled(arguments, shelf.folder))
                    assert answer in said.text, said
                    assert one.name in NETWORK or not said.error, said
            return {one.name: [child.pid for child in shelf.children(one)] for one in SERVERS}

        before = await answered()
        await asyncio.sleep(PAUSE_S)
        assert await answered() == before


@pytest.mark.long
async def test_a_configuration_of_six_servers_serves_the_inspector_and_both_sdks_by_one_command_each(
    environment: Any, tmp_path: Path
) -> None:
    furnish(tmp_path)
    chosen = [one for one in SERVERS if one.name in ("time", "git", "sqlite", "everything", "memory", "thinking")]
    listed = {
        f"my {one.name}": {"command": one.argv(tmp_path)[0], "args": one.argv(tmp_path)[1:],
                           "env": filled(one.env, tmp_path)}
        for one in chosen
    }  # fmt: skip
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": listed}))
    try:
        done = environment.tekup("import", str(file), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        wanted = {public(f"my-{one.name}", one.call[0]) for one in chosen}
        assert wanted <= {tool for added in json.loads(done.stdout) for tool in added["tools"]}
        for client in ("inspector", "python", "typescript"):
            said = listed_by(environment, client, tmp_path)
            assert not [tool for tool in wanted if tool not in said], (client, said)
    finally:
        for one in chosen:
            environment.tekup("remove", f"my-{one.name}")


def listed_by(environment: Any, client: str, folder: Path) -> str:
    """What a client prints that is run as `tekup connect` says: one command."""
    shown = environment.tekup_json("connect", client)
    variable, _, key = shown["before"][0].removeprefix("export ").partition("=")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), variable: key}
    inspector = Path(program("inspector"))
    if client == "python":
        (folder / "client.py").write_text(shown["text"])
        command = [sys.executable, "client.py"]
    elif client == "typescript":
        (folder / "client.mts").write_text(shown["text"])
        (folder / "node_modules").symlink_to(inspector.parent / "node_modules")
        command = [program("node"), "client.mts"]
    else:
        asked = shlex.split(shown["text"])[2:]  # without `npx` and the package's name
        command = [str(inspector), *(part.replace(f"${variable}", key) for part in asked)]
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
