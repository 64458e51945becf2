"""No tool is led out of its root by a second process that swaps folders, files and links."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.support.every_tool import TOOLS
from tests.support.swapper import SECRET, Arena, under_attack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.contract.services.conftest import Session, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]

CALLERS = 6
LEAST_CALLS = 110  # so that every tool has had its turn, also on a busy machine
Arguments = dict[str, object]
THERE_AND_BACK = [{"old_text": "harmless", "new_text": "changed"}, {"old_text": "changed", "new_text": "harmless"}]
PLAIN: list[tuple[str, Arguments]] = [
    ("read_file", {"path": "swap/secret.txt"}),
    ("read_file", {"path": "file.txt", "tail": 1}),
    ("read_file", {"path": "swap/inner/secret.txt"}),
    ("read_files", {"paths": ["file.txt", "swap/secret.txt", "swap/inner/../secret.txt"]}),
    ("read_bytes", {"path": "swap/other.txt"}),
    ("list_directory", {"path": "swap"}),
    ("list_directory", {"path": "swap/inner", "order": "size"}),
    ("find_files", {"path": ".", "pattern": "**/*"}),
    ("find_files", {"path": "swap", "pattern": "*", "order": "modified"}),
    ("tree", {"path": "."}),
    ("tree", {"path": "swap", "gitignore": False, "sizes": True}),
    ("directory_size", {"path": "swap"}),
    ("stat", {"path": "swap/secret.txt", "sha256": True}),
    ("stat", {"path": f"swap/{SECRET[:3]}.txt"}),
    ("search_content", {"path": ".", "pattern": "[a-z]+-[a-z]+-of"}),
    ("search_content", {"path": "swap/secret.txt", "pattern": "secret-of"}),
    ("write_file", {"path": "swap/secret.txt", "content": "harmless too\n", "overwrite": True}),
    ("write_file", {"path": "file.txt", "content": "more\n", "append": True}),
    ("edit_file", {"path": "swap/other.txt", "edits": THERE_AND_BACK}),
    ("edit_files", {"edits": [
        {"path": "swap/secret.txt", "edits": THERE_AND_BACK},
        {"path": "swap/inner/secret.txt", "edits": THERE_AND_BACK},
    ]}),
    ("delete", {"path": "swap/secret.txt"}),
    ("delete", {"path": "swap/inner/secret.txt", "permanent": True}),
    ("delete", {"path": "swap/spare", "permanent": True, "recursive": True}),
    ("list_trash", {}),
    ("list_roots", {}),
]  # fmt: skip


def attacks() -> Iterator[tuple[str, Arguments]]:
    """Calls without end, the changing ones with a new name each time."""
    for turn in count():
        yield from PLAIN
        calls: list[tuple[str, Arguments]] = [
            ("write_file", {"path": f"swap/new-{turn}.txt", "content": "new"}),
            ("write_file", {"path": f"swap/deep-{turn}/er/new.txt", "content": "new"}),
            ("make_directory", {"path": f"swap/made-{turn}/inner"}),
            ("move", {"source": "swap/other.txt", "target": f"calm/moved-{turn}"}),
            ("move", {"source": f"calm/moved-{turn}", "target": f"swap/back-{turn}"}),
            ("copy", {"source": "swap", "target": f"calm/copy-{turn}"}),
            ("copy", {"source": "swap/secret.txt", "target": f"calm/file-{turn}"}),
            ("copy", {"source": f"calm/file-{turn}", "target": f"swap/file-{turn}"}),
            ("empty_trash", {}) if turn % 3 == 2 else ("restore", {"trash_id": "NEWEST", "target": f"swap/r-{turn}"}),
        ]
        yield from calls


async def attacked(session: Session, arena: Arena, seconds: float) -> Mapping[str, Counter[str]]:
    """Call tools while the attack runs; how often each was answered and refused.

    Every answer is looked through for what lies outside.
    """
    counted: dict[str, Counter[str]] = {"answered": Counter(), "refused": Counter()}
    calls, until = attacks(), time.monotonic() + seconds
    newest = "none"

    async def caller() -> None:
        nonlocal newest
        while time.monotonic() < until or counted["answered"].total() + counted["refused"].total() < LEAST_CALLS:
            tool, arguments = next(calls)
            arguments = {name: newest if value == "NEWEST" else value for name, value in arguments.items()}
            said = await session.call(f"filesystem_{tool}", **arguments)
            assert SECRET not in said.result.model_dump_json(), f"{tool} {arguments}"
            assert str(arena.outside) not in said.result.model_dump_json(), f"{tool} {arguments}"
            if tool == "search_content" and not said.error:
                assert said.facts["matched"] == 0
            counted["refused" if said.error else "answered"][tool] += 1
            if tool == "delete" and not said.error:
                newest = said.facts["trash_id"] or newest
            if tool in {"delete", "move"}:
                arena.refill()

    async with anyio.create_task_group() as callers:
        for _ in range(CALLERS):
            callers.start_soon(caller)
    return counted


async def _hold(starter: Starter, folder: Path, seconds: float) -> None:
    with under_attack(folder) as arena:
        instance = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=arena.root)
        before = arena.outside_state()
        async with instance.session() as session:
            counted = await attacked(session, arena, seconds)
    assert arena.outside_state() == before
    assert arena.leaked() == []
    tools = {name.removeprefix("filesystem_") for name in TOOLS if name.startswith("filesystem_")}
    assert set(counted["answered"]) | set(counted["refused"]) == tools
    # Both sides of the race were met, or nothing was proved.
    assert len(counted["answered"]) > len(tools) // 2, counted
    assert counted["refused"].total() > 10, counted
    print({how: dict(found) for how, found in counted.items()})


async def test_no_tool_is_led_out_of_its_root_in_seconds(starter: Starter, tmp_path: Path) -> None:
    await _hold(starter, tmp_path, 5.0)


@pytest.mark.long
@pytest.mark.timeout(200)
async def test_no_tool_is_led_out_of_its_root_in_a_minute(starter: Starter, tmp_path: Path) -> None:
    await _hold(starter, tmp_path, 60.0)
