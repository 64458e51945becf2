"""Drills hit the calls they name, and a bad file hits nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from services.common import ToolError
from services.common.drills import CRASH_EXIT_CODE, Drills


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


async def test_a_status_is_for_requests_to_the_tools_it_names_and_not_for_the_instances_own(file: Path) -> None:
    drill(file, [{"tool": "demo_*", "status": 503}])
    drills = Drills(file)
    assert drills.status("demo_x", probe=False) == 503
    assert (drills.status("other_x", probe=False), drills.status("demo_x", probe=True)) == (0, 0)
    assert Drills(None).status("demo_x", probe=False) == 0
    drill(file, [{"status": 503}])
    assert drills.status("", probe=False) == 0
    assert not await drills.apply("demo_x", probe=False)


@pytest.mark.parametrize("status", [200, 404, 600])
async def test_a_status_that_is_no_5xx_is_refused(file: Path, status: int) -> None:
    drill(file, [{"status": status}])
    assert Drills(file).status("demo_x", probe=False) == 0


async def test_a_broken_schema_is_said_to_whoever_makes_the_result(file: Path) -> None:
    drill(file, [{"tool": "demo_a*", "break_schema": True}])
    drills = Drills(file)
    assert await drills.apply("demo_add", probe=False)
    assert not await drills.apply("demo_look", probe=False)


def test_growth_stays_until_the_process_dies_of_its_own_limit(file: Path) -> None:
    drill(file, [{"grow_mb": 64}])
    script = (
        "import asyncio, pathlib, resource, sys\n"
        "import psutil\n"
        "from services.common.drills import Drills\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "drills = Drills(pathlib.Path(sys.argv[1]))\n"
        "for n in range(64):\n"
        "    print(n, psutil.Process().memory_info().rss >> 20, flush=True)\n"
        "    asyncio.run(drills.apply('demo_x', probe=False))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=False)
    calls = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert done.returncode == CRASH_EXIT_CODE, done.stderr
    assert 8 < len(calls) < 64
    assert calls[8][1] - calls[0][1] > 8 * 48
