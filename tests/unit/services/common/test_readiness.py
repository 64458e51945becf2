"""Ready means that the declared probes work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mcp_types import CallToolResult

from services.common.call import current_call
from services.common.calls import ToolResult, failed
from services.common.declared import Probe
from services.common.kit import Kit
from services.common.readiness import Phase, Readiness

if TYPE_CHECKING:
    from tests.unit.services.common.conftest import Clock

pytestmark = pytest.mark.feature("B5")
PROBES = [Probe("demo_a", {"x": 1}), Probe("demo_b", {})]


class Tools:
    """Answers probes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.failing: dict[str, str] = {}
        self.hanging = False

    async def call(self, tool: str, arguments: dict[str, object]) -> ToolResult:
        self.calls.append((tool, current_call().client))
        if self.hanging:
            await asyncio.sleep(60)
        text = self.failing.get(tool)
        return failed(text) if text else CallToolResult(content=[])


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def readiness(kit: Kit, clock: Clock, tools: Tools) -> Readiness:
    made = Readiness(PROBES, kit.metrics, clock)
    made.serve(tools.call)
    return made


async def test_before_and_after_serving_the_phase_is_the_reason(kit: Kit) -> None:
    readiness = Readiness(PROBES, kit.metrics)
    assert await readiness.problem() == "starting"
    readiness.phase = Phase.DRAINING
    assert await readiness.problem() == "draining"


async def test_every_failing_probe_is_named(readiness: Readiness, tools: Tools) -> None:
    tools.failing = {"demo_a": "broken", "demo_b": "empty"}
    assert await readiness.problem() == "probe demo_a: broken; probe demo_b: empty"


async def test_a_result_counts_for_a_second(readiness: Readiness, tools: Tools, clock: Clock) -> None:
    for _ in range(5):
        assert await readiness.problem() is None
    assert tools.calls == [("demo_a", "~probe"), ("demo_b", "~probe")]
    tools.failing = {"demo_a": "broken"}
    clock.now += 1
    assert await readiness.problem() == "probe demo_a: broken"


async def test_parallel_questions_run_the_probes_once(readiness: Readiness, tools: Tools) -> None:
    answers = await asyncio.gather(*(readiness.problem() for _ in range(20)))
    assert set(answers) == {None}
    assert len(tools.calls) == 2


async def test_a_hanging_probe_does_not_hold_up_the_answer(readiness: Readiness, tools: Tools, clock: Clock) -> None:
    assert await readiness.problem() is None
    tools.hanging = True
    clock.now += 1
    async with asyncio.timeout(2):
        assert await readiness.problem() is None, "the last known result, until the probe's own deadline"
    await readiness.stop()
