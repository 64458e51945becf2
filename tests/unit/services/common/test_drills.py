"""Drills hit the calls they name, and a bad file hits nothing."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from services.common import ToolError
from services.common.drills import Drills


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "drill.json"


def drill(file: Path, content: object) -> None:
    """Put a drill in force: a list, a text as it is, or no file."""
    if content is None:
        file.unlink()
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))


async def hit(drills: Drills, tool: str, *, probe: bool = False) -> bool:
    try:
        await drills.apply(tool, probe=probe)
    except ToolError:
        return True
    return False


async def test_no_file_is_no_drill(file: Path) -> None:
    assert not await hit(Drills(None), "demo_x")
    assert not await hit(Drills(file), "demo_x")


async def test_a_drill_hits_its_glob_and_spares_probes(file: Path) -> None:
    drill(file, [{"tool": "demo_a*", "error": "x"}])
    drills = Drills(file)
    assert await hit(drills, "demo_add")
    assert not await hit(drills, "demo_look")
    assert not await hit(drills, "demo_add", probe=True)
    drill(file, [{"tool": "demo_a*", "error": "x", "probe": True}])
    assert await hit(drills, "demo_add", probe=True)


async def test_a_rate_hits_about_that_share(file: Path) -> None:
    drill(file, [{"error": "x", "rate": 0.3}])
    drills = Drills(file)
    hits = sum([await hit(drills, "demo_x") for _ in range(2000)])
    assert 480 < hits < 720


async def test_a_changed_bad_or_removed_file_takes_effect(file: Path) -> None:
    drills = Drills(file)
    drill(file, [{"error": "x"}])
    assert await hit(drills, "demo_x")
    drill(file, "[{")
    assert not await hit(drills, "demo_x")
    drill(file, [{"error": "again"}])
    assert await hit(drills, "demo_x")
    drill(file, None)
    assert not await hit(drills, "demo_x")


async def test_a_hang_ends_only_by_cancellation(file: Path) -> None:
    drill(file, [{"hang": True}])
    with anyio.move_on_after(0.05) as scope:
        await Drills(file).apply("demo_x", probe=False)
    assert scope.cancelled_caught
