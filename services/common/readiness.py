"""Ready means a tool works: the instance calls its own declared probes and fails its check when they fail.

Probes run through the real tool path, as a client of their own that no caller's metric counts.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final

from mcp import MCPError
from mcp_types import CallToolResult, TextContent

from services.common.call import PROBE_CLIENT, Call, set_call
from services.common.calls import ToolResult
from services.common.declared import Probe
from services.common.metrics import Metrics

__all__ = ["Phase", "Readiness"]

logger = logging.getLogger(__name__)

PROBE_DEADLINE_S: Final = 5.0
FRESH_S: Final = 1.0
ANSWER_WITHIN_S: Final = 0.8  # less than a check waits: a slow probe is answered with the last known result


class Phase(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


ProbeCall = Callable[[str, dict[str, object]], Awaitable[ToolResult]]


class Readiness:
    """Answers `/ready`.

    Args:
        probes: The declared probes.
        metrics: Shows the state.
        clock: Seconds, monotonic.
        checks: What else has to hold; each says why it does not, None when it does.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        checks: Sequence[Callable[[], Awaitable[str | None]]] = (),
    ) -> None:
        self.phase = Phase.STARTING
        self._probes = probes
        self._checks = checks
        self._metrics = metrics
        self._clock = clock
        self._call: ProbeCall | None = None
        self._problem: str | None = "no probe has run yet"
        self._checked_at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    def serve(self, call: ProbeCall) -> None:
        """From now on the tools are there.

        Args:
            call: Calls a tool of this instance.
        """
        self._call = call
        self.phase = Phase.SERVING

    async def problem(self) -> str | None:
        """Why the instance is not ready, None when it is. Costs a probe at most once a second."""
        if self.phase is not Phase.SERVING:
            return self.phase.value
        if self._clock() - self._checked_at >= FRESH_S:
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._check())
            await asyncio.wait([self._running], timeout=ANSWER_WITHIN_S)
        return self._problem

    async def stop(self) -> None:
        """End a probe that still runs."""
        self.phase = Phase.DRAINING
        self._metrics.ready.set(0)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _check(self) -> None:
        found = [text for check in self._checks if (text := await _answer(check)) is not None]
        found += [text for probe in self._probes if (text := await self._failure(probe)) is not None]
        problem = "; ".join(found) or None
        if problem != self._problem:
            logger.log(logging.WARNING if problem else logging.INFO, "ready.changed", extra={"problem": problem})
        self._problem, self._checked_at = problem, self._clock()
        self._metrics.ready.set(0 if problem else 1)

    async def _failure(self, probe: Probe) -> str | None:
        assert self._call is not None  # noqa: S101  # set before the phase is SERVING
        set_call(Call(client=PROBE_CLIENT, internal=True))  # this task's own context: nothing to restore
        text: str | None
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                text = _error_text(await self._call(probe.tool, dict(probe.arguments)))
        except TimeoutError:
            text = f"no answer within {PROBE_DEADLINE_S:g} s"
        except MCPError as error:
            text = error.error.message
        if text is None:
            return None
        self._metrics.probe_failures.labels(probe.tool).inc()
        return f"probe {probe.tool}: {text}"


async def _answer(check: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            return await check()
    except TimeoutError:
        return f"no answer within {PROBE_DEADLINE_S:g} s"


def _error_text(result: ToolResult) -> str | None:
    if not isinstance(result, CallToolResult):
        return "it asked for input"
    if not result.is_error:
        return None
    return " ".join(part.text for part in result.content if isinstance(part, TextContent)) or "it failed"
