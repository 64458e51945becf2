"""Drills: a file that makes tools slow, wrong, hanging or deadly, for practising and for tests of the platform.

`MCP_DRILL_FILE` holds a JSON list such as `[{"tool": "search_*", "rate": 0.2, "delay_ms": 800, "error": "drill"}]`.
It is read again when it changes; no file means no drill. An instance's own probes are spared unless a drill says
`"probe": true`, or every drill would only take its instance out of service.
"""

import json
import logging
import os
import random
from pathlib import Path
from typing import Annotated

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.common.errors import ToolError
from services.common.rights import allows

__all__ = ["CRASH_EXIT_CODE", "Drill", "Drills"]

logger = logging.getLogger(__name__)

CRASH_EXIT_CODE = 70
Status = Annotated[int, Field(ge=500, le=599)]


class Drill(BaseModel):
    """One override of behaviour.

    Args:
        tool: Glob over tool names.
        rate: Share of the calls it hits.
        delay_ms: Waits first.
        error: Then fails with this text.
        crash: Then ends the process at once.
        hang: Then never answers; the deadline or the caller ends it.
        status: Is answered with this HTTP status instead, before anything else; 5xx only.
        break_schema: Then loses what its output schema promises; does nothing to a tool without one.
        grow_mb: Keeps so many MiB more first, and for good. At its own limit of memory the process dies.
        probe: Hits the instance's own probes too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = "*"
    rate: float = Field(default=1.0, ge=0, le=1)
    delay_ms: int = Field(default=0, ge=0)
    error: str = ""
    crash: bool = False
    hang: bool = False
    status: Status = 0
    break_schema: bool = False
    grow_mb: int = Field(default=0, ge=0)
    probe: bool = False


_FILE = TypeAdapter(tuple[Drill, ...])


class Drills:
    """The drills in force.

    Args:
        path: Where they are, None for never any.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._drills: tuple[Drill, ...] = ()
        self._kept: list[bytearray] = []

    def status(self, tool: str, *, probe: bool) -> int:
        """The HTTP status that a request to call `tool` is refused with, 0 for none; `tool` "" is none."""
        if self._path is None or not tool:
            return 0
        refusing = (drill for drill in self._current(self._path) if drill.status and _hits(drill, tool, probe=probe))
        return next((drill.status for drill in refusing), 0)

    async def apply(self, tool: str, *, probe: bool) -> bool:
        """Do to a call of `tool` what the drills say.

        Returns:
            Whether its result is to break its output schema.

        Raises:
            ToolError: A drill says so.
        """
        spoiled = False
        if self._path is not None:
            for drill in self._current(self._path):
                if not drill.status and _hits(drill, tool, probe=probe):
                    await self._carry_out(drill, tool)
                    spoiled = spoiled or drill.break_schema
        return spoiled

    async def _carry_out(self, drill: Drill, tool: str) -> None:
        self._grow(drill.grow_mb, tool)
        await anyio.sleep(drill.delay_ms / 1000)
        if drill.crash:
            logger.warning("drill.crash", extra={"tool": tool})
            os._exit(CRASH_EXIT_CODE)
        if drill.hang:
            await anyio.sleep_forever()
        if drill.error:
            raise ToolError(drill.error)

    def _grow(self, mb: int, tool: str) -> None:
        if not mb:
            return
        try:
            self._kept.append(bytearray(b"x") * (mb * 1024 * 1024))  # written to: zeros would take no memory
        except MemoryError:  # a container's limit kills at once; a process's own limit is made to do the same
            logger.warning("drill.out_of_memory", extra={"tool": tool, "kept": len(self._kept)})
            os._exit(CRASH_EXIT_CODE)

    def _current(self, path: Path) -> tuple[Drill, ...]:
        try:
            stat = path.stat()
            identity = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if identity != self._seen:
                self._seen, self._drills = identity, ()
                self._drills = _FILE.validate_python(json.loads(path.read_text()))
                logger.info("drills.loaded", extra={"path": str(path), "count": len(self._drills)})
        except FileNotFoundError:
            self._seen, self._drills = None, ()
        except (OSError, ValueError) as error:  # a ValidationError is a ValueError
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            logger.warning("drills.unreadable", extra={"path": str(path), "reason": reason})
        return self._drills


def _hits(drill: Drill, tool: str, *, probe: bool) -> bool:
    hit = allows((drill.tool,), tool) and (drill.probe or not probe)
    return hit and random.random() < drill.rate  # noqa: S311  # a share of calls, nothing secret
