"""A service that writes down all that runs in it, and for whom: `python -m tests.attacks.counting_service NAME`.

One line a run, JSON: what ran, with which mark, and the caller as the kit knows it. So "it did not run" is read from
the service itself and not from a status.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from mcp.server.mcpserver import Context
from mcp_types import Completion, CompletionArgument
from pydantic_settings import SettingsConfigDict

from services.common import HandleParam, Kit, ServiceSettings, ServiceSpec, current_call, run

NAME = sys.argv[1] if len(sys.argv) > 1 else "vault"
TELLS_WHO: Final = re.compile("tekup|authorization")
SET_BY_THE_GATE: Final = ("x-tekup-gate", "x-tekup-client", "x-tekup-grant", "x-tekup-service", "x-tekup-route")
F = TypeVar("F", bound=Callable[..., Awaitable[object]])


class CountingSettings(ServiceSettings):
    """Where runs are written down."""

    model_config = SettingsConfigDict(env_prefix=f"MCP_{NAME.upper()}_", frozen=True)

    ran: Path = Path("/dev/null")


def named(function: F) -> F:
    """Give a function the name of a tool of this service."""
    function.__name__ = function.__name__.replace("counting_", f"{NAME}_")
    return function


@asynccontextmanager
async def build(kit: Kit, settings: CountingSettings) -> AsyncIterator[None]:
    """Declare what can be attacked."""
    file = os.open(settings.ran, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def ran(what: str, mark: str, ctx: Context[Any, Any] | None = None) -> None:
        probed = current_call().internal  # by the instance itself, without a request
        came = ctx.headers if ctx is not None and not probed else None
        odd = sorted(name for name in came or () if TELLS_WHO.search(name) and name not in SET_BY_THE_GATE)
        line = {"what": what, "mark": mark, "odd": odd, **asdict(current_call())}
        os.write(file, json.dumps(line).encode() + b"\n")

    async def close(_: str) -> None: ...

    books = kit.handles("book", close, idle_s=600, total_s=600, per_client=50)

    @kit.tool(title="Peek", read_only=True)
    @named
    async def counting_peek(mark: str, ctx: Context[Any, Any]) -> str:
        """May be used by the client with few rights."""
        ran("peek", mark, ctx)
        return "peeked"

    @kit.tool(title="Take", destructive=True)
    @named
    async def counting_take(mark: str, ctx: Context[Any, Any]) -> str:
        """May not."""
        ran("take", mark, ctx)
        return "taken"

    @kit.tool(title="Open")
    @named
    async def counting_open() -> str:
        """Open a book of one's own."""
        return books.open(current_call().client)

    @kit.tool(title="Use")
    @named
    async def counting_use(handle: HandleParam, mark: str, ctx: Context[Any, Any]) -> str:
        """Use a book of one's own."""
        owner = books.get(handle)
        ran("use", mark, ctx)
        return f"the book of {owner}"

    @kit.resource(f"{NAME}://public/{{mark}}", title="Public", mime_type="text/plain")
    async def public(mark: str) -> str:
        """May be read by the client with few rights."""
        ran("public", mark)
        return "public content"

    @kit.resource(f"{NAME}://secret/{{mark}}", title="Secret", mime_type="text/plain")
    async def secret(mark: str) -> str:
        """May not."""
        ran("secret", mark)
        return "secret content"

    @kit.prompt(title="Ask")
    @named
    async def counting_ask(mark: str) -> str:
        """May not be asked for by the client with few rights."""
        ran("ask", mark)
        return "secret prompt"

    @kit.completion
    async def complete(ref: object, argument: CompletionArgument, context: object) -> Completion:
        del ref, context
        ran("complete", argument.value)
        return Completion(values=["secret completion"])

    kit.probe(f"{NAME}_peek", {"mark": "probe"})
    yield


SPEC = ServiceSpec(name=NAME, settings=CountingSettings, build=build, instructions=f"Counts what runs in {NAME}.")

if __name__ == "__main__":
    run(SPEC)
