"""A service tried as it runs, for the tests of services outside of this repository: one instance by itself, without
gate and registry, and the official client."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mcp import Client
from mcp.client.streamable_http import streamable_http_client

__all__ = ["DidNotServe", "running", "trying"]

START_S = 60.0
STOP_S = 20.0
PROTOCOL = "2026-07-28"


class DidNotServe(Exception):
    """The instance did not begin to serve; the text has what it said."""


@asynccontextmanager
async def trying(module: str, folder: Path, **settings: object) -> AsyncIterator[Client]:
    """Run `python -m MODULE` and be a client of it.

    Args:
        module: The service's package.
        folder: Where it lies.
        settings: Further variables, such as `MCP_NOTES_FILE`.

    Raises:
        DidNotServe: It ended, or took too long.
    """
    async with running(module, folder, **settings) as url, Client(streamable_http_client(url), mode=PROTOCOL) as client:
        yield client


@asynccontextmanager
async def running(module: str, folder: Path, **settings: object) -> AsyncIterator[str]:
    """Run `python -m MODULE`; the URL of its endpoint.

    Args:
        module: The service's package.
        folder: Where it lies.
        settings: Further variables.

    Raises:
        DidNotServe: It ended, or took too long.
    """
    own = {"MCP_STANDALONE": "true", "MCP_PORT": "0", "MCP_ADMIN_PORT": "0", "MCP_HOST": "127.0.0.1"}
    said = {name: str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=folder, stdout=PIPE, stderr=STDOUT, env={**os.environ, **own, **said}
    )
    if process.stdout is None:
        raise DidNotServe(f"{module} has no output")
    try:
        port = await _port(module, process.stdout)
        rest = asyncio.create_task(_drained(process.stdout))
        yield f"http://127.0.0.1:{port}/mcp"
        rest.cancel()
    finally:
        await _ended(process)


async def _port(module: str, output: asyncio.StreamReader) -> int:
    """Where it serves, by the line in which it says so."""
    lines: list[str] = []
    try:
        async with asyncio.timeout(START_S):
            while line := (await output.readline()).decode(errors="replace"):
                lines.append(line)
                with suppress(ValueError, KeyError, TypeError):
                    found = json.loads(line)
                    if found["event"] == "serving":
                        return int(found["port"])
    except TimeoutError:
        lines.append(f"it did not serve within {START_S:.0f} s")
    raise DidNotServe(f"{module}: {''.join(lines)}")


async def _drained(output: asyncio.StreamReader) -> None:
    while await output.readline():
        pass


async def _ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
