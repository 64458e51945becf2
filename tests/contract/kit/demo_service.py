"""A service on the kit for the tests: `python demo_service.py NAME`; its tools are `NAME_echo` and so on."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mcp.server.mcpserver import Context
from mcp_types import Completion
from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict

from services.common import HandleParam, Kit, ServiceSettings, ServiceSpec, ToolError, current_call, run

NAME = sys.argv[1] if len(sys.argv) > 1 else "demo"
F = TypeVar("F", bound=Callable[..., Awaitable[object]])


class DemoSettings(ServiceSettings):
    """Files by which a test reaches into the running service, or sees what it did."""

    model_config = SettingsConfigDict(env_prefix="MCP_DEMO_", frozen=True)

    sick_file: Path = Path("/nonexistent")
    closed_file: Path = Path("/dev/null")
    count: int = 0


class Sum(BaseModel):
    """A structured result."""

    total: int


def named(function: F) -> F:
    """Give a function the name of a tool of this service."""
    function.__name__ = function.__name__.replace("demo_", f"{NAME}_")
    return function


def note(file: Path, text: str) -> None:
    """Append a line."""
    with file.open("a") as out:
        out.write(f"{text}\n")


@asynccontextmanager
async def build(kit: Kit, settings: DemoSettings) -> AsyncIterator[None]:
    """Declare everything the kit can serve."""

    async def forget(page: str) -> None:
        note(settings.closed_file, f"handle {page}")

    pages = kit.handles("page", forget, idle_s=60, total_s=300, per_client=2)

    @kit.tool(title="Echo", read_only=True, idempotent=True)
    @named
    async def demo_echo(text: str) -> str:
        """Say it again."""
        if settings.sick_file.exists():
            raise ToolError("the demo is sick")
        return text

    @kit.tool(title="Add", read_only=True)
    @named
    async def demo_add(a: int, b: int) -> Sum:
        """Add two numbers."""
        return Sum(total=a + b)

    @kit.tool(title="Sleep")
    @named
    async def demo_sleep(seconds: float) -> str:
        """Take its time."""
        await asyncio.sleep(seconds)
        return "slept"

    @kit.tool(title="Hurry", deadline_s=0.2)
    @named
    async def demo_hurry() -> str:
        """Never makes it."""
        await asyncio.sleep(60)
        return "never"

    @kit.tool(title="Crash")
    @named
    async def demo_crash() -> str:
        """Break."""
        raise ZeroDivisionError("the secret reason")

    @kit.tool(title="Who am I", read_only=True)
    @named
    async def demo_whoami() -> dict[str, Any]:
        """Show the running call."""
        return {**asdict(current_call()), "pid": os.getpid(), "instance": kit.instance}

    @kit.tool(title="Steps")
    @named
    async def demo_steps(count: int, ctx: Context[Any, Any]) -> str:
        """Report progress."""
        for step in range(count):
            await ctx.report_progress(step + 1, count, f"step {step + 1}")
        return "done"

    @kit.tool(title="Open a page")
    @named
    async def demo_open(page: str) -> str:
        """Open a page; its handle lives a minute after its last use."""
        return pages.open(page)

    @kit.tool(title="Read a page", read_only=True)
    @named
    async def demo_read(handle: HandleParam) -> str:
        """Read a page."""
        return pages.get(handle)

    @kit.tool(title="Close a page")
    @named
    async def demo_close(handle: HandleParam) -> str:
        """Close a page."""
        await pages.close(handle)
        return "closed"

    @kit.tool(title="My pages", read_only=True)
    @named
    async def demo_pages() -> list[str]:
        """List open pages."""
        return [info.handle for info in pages.mine()]

    @kit.resource(f"{NAME}://notes/{{+path}}", title="Note", mime_type="text/plain")
    async def read_note(path: str) -> str:
        """A note."""
        return f"note {path}"

    @kit.resource(f"{NAME}://about", title="About", mime_type="text/plain")
    async def about() -> str:
        """What this is."""
        return NAME

    @kit.prompt(title="Greet")
    @named
    async def demo_greet(who: str) -> str:
        """A greeting."""
        return f"Hello {who}"

    @kit.completion
    async def complete(ref: object, argument: object, context: object) -> Completion:
        del ref, argument, context
        return Completion(values=["alice", "bob"])

    kit.probe(f"{NAME}_echo", {"text": "probe"})
    yield
    note(settings.closed_file, "build")


SPEC = ServiceSpec(name=NAME, settings=DemoSettings, build=build, instructions=f"Instructions of {NAME}.")

if __name__ == "__main__":
    run(SPEC)
