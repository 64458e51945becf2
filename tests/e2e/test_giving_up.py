"""Deadlines from the client to the tool: who gives up cancels the work, and nothing runs on behind anybody's back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.crowd import clients
from tests.support.ledgers import Ledgers, ledgers
from tests.support.load import body, headers
from tests.support.metrics import in_flight, registered, tool_calls
from tests.support.sdk import ERAS, LEGACY, MODERN, asked, sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]
WITHIN_S = 20.0
LONG_MS = 50_000


@asynccontextmanager
async def one_ledger(environment: Any, folder: Path) -> AsyncIterator[tuple[Ledgers, str]]:
    """One instance that answers clients of both eras."""
    with ledgers(environment, folder) as made:
        instance = made.start()
        async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, MODERN) as client:
            await made.all_known(client, instance)
        yield made, instance


async def until_steps(made: Ledgers, instance: str, entry: str, *steps: str) -> None:
    """Wait until an entry has gone through just these steps."""

    async def gone_through() -> bool:
        return made.steps(instance).get(entry) == list(steps)

    await eventually(gone_through, f"{entry} to be {' and '.join(steps)}", WITHIN_S)


async def until_idle(environment: Any, *services: str) -> None:
    """Wait until no instance of these serves a request."""

    async def idle() -> bool:
        return not any([await in_flight(one) for service in services for one in await registered(environment, service)])

    await eventually(idle, f"{' and '.join(services)} to be idle", WITHIN_S)


@pytest.mark.feature("B10", "A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_gives_up_cancels_the_tool(environment: Any, tmp_path: Path, mode: str) -> None:
    async with one_ledger(environment, tmp_path) as (made, instance):
        url = f"{environment.gateway_url}/mcp"
        async with sdk_client(url, environment.key, mode) as client:
            await client.list_tools()
            note = asyncio.create_task(asked(client, "ledger_note", {"entry": "given up", "hold_ms": LONG_MS}))
            await until_steps(made, instance, "given up", "begun")
            note.cancel()
            with suppress(asyncio.CancelledError):
                await note
            if mode == MODERN:
                await until_steps(made, instance, "given up", "begun", "cancelled")
            assert (await asked(client, "ledger_note", {"entry": "next"})).ok
        # An older client's cancelling does not reach the tool, its leaving does (docs/architecture.md).
        await until_steps(made, instance, "given up", "begun", "cancelled")
        assert await tool_calls(environment, "ledger", "ledger_note", "cancelled") == {instance: 1}
        await until_idle(environment, "ledger", "hub")


def older(tool: str, arguments: dict[str, object]) -> dict[str, object]:
    """A call as an older client sends it."""
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


@pytest.mark.feature("B10", "A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_connection_that_breaks_cancels_the_tool(environment: Any, tmp_path: Path, mode: str) -> None:
    async with one_ledger(environment, tmp_path) as (made, instance):
        sent = headers(environment.key, "tools/call", "ledger_note")
        arguments: dict[str, object] = {"entry": "hung up", "hold_ms": LONG_MS}
        request = body("tools/call", {"name": "ledger_note", "arguments": arguments})
        if mode == LEGACY:
            sent = {name: sent[name] for name in ("Authorization", "Accept")} | {"MCP-Protocol-Version": ERAS[LEGACY]}
            request = older("ledger_note", arguments)
        with suppress(httpx.ReadTimeout):
            async with httpx.AsyncClient(timeout=httpx.Timeout(30, read=3)) as client:
                await client.post(f"{environment.gateway_url}/mcp", headers=sent, json=request)
        await until_steps(made, instance, "hung up", "begun", "cancelled")
        assert await tool_calls(environment, "ledger", "ledger_note", "cancelled") == {instance: 1}
        await until_idle(environment, "ledger", "hub")


@pytest.mark.feature("B10", "A13")
async def test_a_tool_past_its_deadline_is_cancelled_and_its_caller_told_in_either_era(
    environment: Any, tmp_path: Path
) -> None:
    async with one_ledger(environment, tmp_path) as (made, instance):
        for mode in ERAS:
            async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, mode) as client:
                answer = await asked(client, "ledger_hurry", {"entry": f"late {mode}", "hold_ms": LONG_MS})
                assert answer.tool_error.startswith("ledger_hurry was stopped at its deadline of 2 s"), answer
                assert made.steps(instance)[f"late {mode}"] == ["begun", "cancelled"]
        assert await tool_calls(environment, "ledger", "ledger_hurry", "deadline") == {instance: len(ERAS)}
        await until_idle(environment, "ledger", "hub")


class Silent:
    """A web server that takes requests and never answers; counts the connections that are open."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        with suppress(ConnectionError, asyncio.CancelledError):
            while await reader.readline():
                self.asked += 1
        self.open -= 1
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its host and port, inside the block."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()


def ways_out(environment: Any) -> int:
    """How many ports the browser service listens on: one per open page, besides its own."""
    found = psutil.Process(environment.process("browser").pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_LISTEN for connection in found)


@pytest.mark.feature("B10", "B1", "A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_page_given_up_stops_loading_and_one_given_up_while_it_opens_is_closed(
    environment: Any, mode: str
) -> None:
    silent, url = Silent(), f"{environment.gateway_url}/mcp"

    async def give_up(tool: str, **arguments: str) -> None:
        """Call until the page asks for the URL, then leave."""
        before = (await tool_calls(environment, "browser", tool, "cancelled")).total()
        asked_before = silent.asked
        async with sdk_client(url, key, mode) as client:
            await client.list_tools()
            calling = asyncio.create_task(asked(client, tool, arguments))

            async def asked_for() -> bool:
                assert not calling.done(), calling.result()
                return silent.asked > asked_before

            await eventually(asked_for, "the page to be asked for", WITHIN_S)
            calling.cancel()
            with suppress(asyncio.CancelledError):
                await calling

        async def cancelled() -> bool:
            return (await tool_calls(environment, "browser", tool, "cancelled")).total() == before + 1

        async def stopped() -> bool:
            return silent.open == 0

        await eventually(cancelled, f"{tool} to be cancelled", WITHIN_S)
        await eventually(stopped, "the page to stop loading", WITHIN_S)

    async with silent.listening() as host:
        with clients(environment, "impatient", hosts=[host]) as keys:
            key = keys["impatient"]
            at_first = await asyncio.to_thread(ways_out, environment)
            await give_up("browser_open", url=f"http://{host}/")

            async def closed() -> bool:
                return await asyncio.to_thread(ways_out, environment) == at_first

            await eventually(closed, "the half-open page to be closed", WITHIN_S)
            async with sdk_client(url, key, mode) as client:
                opened = await asked(client, "browser_open", {})
                assert opened.result, opened
                handle = opened.result["handle"]
                await give_up("browser_navigate", handle=handle, url=f"http://{host}/")
                assert (await asked(client, "browser_text", {"handle": handle})).ok
                assert (await asked(client, "browser_close", {"handle": handle})).ok
            await eventually(closed, "the page to be closed", WITHIN_S)
            await until_idle(environment, "browser", "hub")
