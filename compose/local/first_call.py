"""The proof at the end of `tekup up`: one real tool call per service through the gate, by the official SDK client."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from .progress import Reporter
from .served import PROTOCOL, WELCOME_FILE, WORD, FirstCall, Target

CALL_S = 60.0
SHOWN = 60
BEFORE = 12
"""Of an answer, so much before the word it was asked for is shown."""


async def _filesystem(client: Client, target: Target) -> str:
    path = str(target.workspace / WELCOME_FILE)
    return _found(await client.call_tool("filesystem_read_file", {"path": path}), WORD)


async def _search(client: Client, target: Target) -> str:
    return _found(await client.call_tool("search_grep", {"pattern": WORD, "path": str(target.workspace)}), WORD)


async def _browser(client: Client, target: Target) -> str:
    opened = await client.call_tool("browser_open", {})
    _found(opened, "")
    handle = str((opened.structured_content or {})["handle"])
    try:
        _found(await client.call_tool("browser_navigate", {"handle": handle, "url": target.page_url}), "")
        return _found(await client.call_tool("browser_text", {"handle": handle}), "Welcome")
    finally:
        await client.call_tool("browser_close", {"handle": handle})


class _Unexpected(Exception):
    """A call was answered, but not as it should be."""


CALLS: tuple[tuple[str, str, Callable[[Client, Target], Awaitable[str]]], ...] = (
    ("filesystem", "filesystem_read_file", _filesystem),
    ("search", "search_grep", _search),
    ("browser", "browser_text", _browser),
)


async def first_calls(target: Target, services: Collection[str], report: Reporter) -> list[FirstCall]:
    """Call one tool of each service.

    Args:
        target: where.
        services: which to call.
        report: told what is being called.

    Returns:
        How each went; nothing is raised for a call that fails.
    """
    results = []
    for service, tool, call in CALLS:
        if service in services:
            report.update("first call", f"calling {tool}")
            results.append(await _one(service, tool, call, target))
    report.over("first call")
    return results


async def _one(service: str, tool: str, call: Callable[[Client, Target], Awaitable[str]], target: Target) -> FirstCall:
    started = time.monotonic()
    try:
        async with asyncio.timeout(CALL_S), client_of(target, service) as client:
            began = time.monotonic()
            result = await call(client, target)
        return FirstCall(service, tool, True, _short(result), 1000 * (time.monotonic() - began))
    except (TimeoutError, MCPError, httpx2.HTTPError, OSError, KeyError, _Unexpected, BaseExceptionGroup) as error:
        problem = problem_of(error)
    return FirstCall(service, tool, False, problem, 1000 * (time.monotonic() - started))


def problem_of(error: BaseException) -> str:
    """What went wrong with a call, on one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CALL_S:.0f} s"
    # the SDK's task groups wrap whatever ended them
    leaves = _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)


@contextlib.asynccontextmanager
async def client_of(target: Target, service: str) -> AsyncIterator[Client]:
    """The official SDK's client of a service, through the gate."""
    headers = {"Authorization": f"Bearer {target.key}"}
    tls = target.gateway.verify()

    async def name_it(request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, **target.extensions()}

    hooks = {"request": [name_it]}
    async with httpx2.AsyncClient(
        headers=headers, timeout=CALL_S, trust_env=False, verify=tls, event_hooks=hooks
    ) as http:
        transport = streamable_http_client(target.endpoint(service), http_client=http)
        async with Client(transport, mode=PROTOCOL) as client:
            yield client


def _found(result: CallToolResult, word: str) -> str:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    if result.is_error:
        raise _Unexpected(text or "the tool failed without a word")
    if word and word not in text:
        raise _Unexpected(f"the answer does not hold {word!r}: {_short(text)}")
    return next((_around(line.strip(), word) for line in text.splitlines() if word in line), text) if word else text


def _around(line: str, word: str) -> str:
    at = line.find(word)
    return line if at < BEFORE else "…" + line[at - BEFORE :]


def _short(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [leaf for error in group.exceptions
            for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])]  # fmt: skip
