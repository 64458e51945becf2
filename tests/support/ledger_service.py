"""A service that writes down each call before it works on it: `python -m tests.support.ledger_service`.

Its file outlives it, so a test can tell what ran, where, how often and how it ended, whatever became of the answer.
One line a step, each in one write: `begun <entry>`, then `done <entry>` or `cancelled <entry>`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict

from services.common import HandleParam, Kit, ServiceSettings, ServiceSpec, current_call, run

HURRY_S = 2.0


class LedgerSettings(ServiceSettings):
    """`MCP_LEDGER_…`."""

    model_config = SettingsConfigDict(env_prefix="MCP_LEDGER_")

    file: Path
    idle_s: float = 600.0
    total_s: float = 3600.0
    per_client: int = 100
    most: int = 0
    """Books at one time; 0 for no bound."""
    without: str = ""
    """A tool that this version has not."""


class Noted(BaseModel):
    """Where an entry was written, and whose book it went into."""

    instance: str
    entry: str
    owner: str = ""


class Opened(BaseModel):
    """A book of one's own."""

    handle: str
    instance: str


class Listed(BaseModel):
    """The caller's books in this instance."""

    instance: str
    handles: tuple[str, ...]


class Said(BaseModel):
    """What one was told."""

    text: str


class _Pen:
    """Writes whole lines, in the order of the steps."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @contextmanager
    def entry(self, entry: str) -> Iterator[None]:
        """Around the work on an entry."""
        self._write("begun", entry)
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._write("cancelled", entry)
            raise
        self._write("done", entry)

    def _write(self, step: str, entry: str) -> None:
        os.write(self._file, f"{step} {entry}\n".encode())


@asynccontextmanager
async def build(kit: Kit, settings: LedgerSettings) -> AsyncIterator[None]:
    """Declare the tools."""
    pen = _Pen(settings.file)

    async def forget(_owner: str) -> None:
        """A book is only a name."""

    books = kit.handles(
        "book", forget, idle_s=settings.idle_s, total_s=settings.total_s, per_client=settings.per_client,
        most=settings.most or None,
    )  # fmt: skip

    async def written(entry: str, hold_ms: int, owner: str = "") -> Noted:
        with pen.entry(entry):
            await asyncio.sleep(hold_ms / 1000)
        return Noted(instance=kit.instance, entry=entry, owner=owner)

    @kit.tool(title="Note")
    async def ledger_note(entry: str, hold_ms: int = 0) -> Noted:
        """Write an entry, then work for a while."""
        return await written(entry, hold_ms)

    @kit.tool(title="Say again", read_only=True)
    async def ledger_echo(text: str) -> Said:
        """The same from every instance of every version."""
        return Said(text=text)

    async def ledger_hurry(entry: str, hold_ms: int = 0) -> Noted:
        """Write an entry, then work for a while, but never longer than two seconds."""
        return await written(entry, hold_ms)

    if settings.without != "ledger_hurry":
        kit.tool(title="Hurry", deadline_s=HURRY_S)(ledger_hurry)

    @kit.tool(title="Open a book")
    async def ledger_open() -> Opened:
        """Open a book of one's own."""
        return Opened(handle=books.open(current_call().client), instance=kit.instance)

    @kit.tool(title="Add to a book")
    async def ledger_add(handle: HandleParam, entry: str, hold_ms: int = 0) -> Noted:
        """Write an entry into a book."""
        return await written(entry, hold_ms, books.get(handle))

    @kit.tool(title="Close a book", idempotent=True)
    async def ledger_close(handle: HandleParam) -> Listed:
        """Close a book."""
        await books.close(handle)
        return Listed(instance=kit.instance, handles=(handle,))

    @kit.tool(title="List one's books", read_only=True)
    async def ledger_list() -> Listed:
        """The caller's books in this instance."""
        return Listed(instance=kit.instance, handles=tuple(info.handle for info in books.mine()))

    kit.probe("ledger_list", {})
    yield


SPEC = ServiceSpec("ledger", LedgerSettings, build, "Writes down what runs.")

if __name__ == "__main__":
    run(SPEC)
