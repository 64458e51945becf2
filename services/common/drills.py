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

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.common.errors import ToolError
from services.common.rights import allows

__all__ = ["Drill", "Drills"]

logger = logging.getLogger(__name__)

CRASH_EXIT_CODE = 70


class Drill(BaseModel):
    """One override of behaviour.

    Args:
        tool: Glob over tool names.
        rate: Share of the calls it hits.
        delay_ms: Waits first.
        error: Then fails with this text.
        crash: Then ends the process at once.
        hang: Then never answers; the deadline or the caller ends it.
        probe: Hits the instance's own probes too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = "*"
    rate: float = Field(default=1.0, ge=0, le=1)
    delay_ms: int = Field(default=0, ge=0)
    error: str = ""
    crash: bool = False
    hang: bool = False
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

    async def apply(self, tool: str, *, probe: bool) -> None:
        """Do to a call of `tool` what the drills say.

        Raises:
            ToolError: A drill says so.
        """
        if self._path is None:
            return
        for drill in self._current(self._path):
            hit = allows((drill.tool,), tool) and (drill.probe or not probe)
            if hit and random.random() < drill.rate:  # noqa: S311  # a share of calls, nothing secret
                await self._carry_out(drill, tool)

    async def _carry_out(self, drill: Drill, tool: str) -> None:
        await anyio.sleep(drill.delay_ms / 1000)
        if drill.crash:
            logger.warning("drill.crash", extra={"tool": tool})
            os._exit(CRASH_EXIT_CODE)
        if drill.hang:
            await anyio.sleep_forever()
        if drill.error:
            raise ToolError(drill.error)

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
