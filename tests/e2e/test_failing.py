"""An instance that lives and fails every call: out of service at once, restarted when that lasts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(300), pytest.mark.feature("B5")]
FAILING_S = 8
LOOKED_AT_S = 3


async def test_an_instance_that_fails_its_own_probes_is_restarted_and_well_again(fresh_environment: Any) -> None:
    there = fresh_environment
    with (there.directory / "tekup.toml").open("a") as file:
        file.write(f"MCP_RESTART_FAILING_S = {FAILING_S}\n")
    there.start()
    before = there.process("search")
    drill = there.state / "drills" / f"search-{before.version}.json"
    drill.write_text(json.dumps([{"error": "drill", "probe": True}]))
    began_s = time.monotonic()

    async def restarted() -> bool:
        await asyncio.sleep(0.3)
        return there.process("search").pid not in (None, before.pid)

    await eventually(restarted, "a restart", 90)
    took_s = time.monotonic() - began_s
    drill.unlink()
    there.until_all_ready(60)
    print(f"restarted after {took_s:.1f} s")
    assert took_s >= FAILING_S - LOOKED_AT_S, "it is counted from when it was last seen well"
    assert there.process("search").restarts >= 1
    assert "restarted, alive and failing" in (there.state / "logs" / "supervisor.log").read_text()
    untouched = [one for one in there.status().processes if one.group != "search" and one.restarts]
    assert untouched == []
