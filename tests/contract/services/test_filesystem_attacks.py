"""Paths that lead out, or to what is no file: each tool refuses them at once, and shows nothing of the outside."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.services.conftest import Instance, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]

SECRET = "nobody-may-read-this"
AT_ONCE_S = 1.0
BUSY = 4.0
"""How many times longer a machine may take on which other tests run."""


@dataclass(frozen=True)
class Attack:
    """A path, and the tools that have to refuse it.

    Args:
        name: What it is.
        path: The path; `OUT` stands for the folder outside.
        tools: Which tools: all that take a path, those that open files, or those that open folders.
    """

    name: str
    path: str
    tools: str = "all"


ATTACKS = [
    Attack("dots", "../outside/secret.txt"),
    Attack("dots in the middle", "calm/../../outside/secret.txt"),
    Attack("dots behind a link", "calm/to-root/../outside/secret.txt"),
    Attack("an absolute path", "OUT/secret.txt"),
    Attack("a path that begins as the root does", "OUT-too/secret.txt"),
    Attack("the root of all", "/etc/passwd"),
    Attack("two slashes", "//etc/passwd"),
    Attack("a process's root", "/proc/self/root/etc/passwd"),
    Attack("NUL", "calm\0/../../outside/secret.txt"),
    Attack("a name too long", "x" * 300),
    Attack("a path too long", "x/" * 3000),
    Attack("empty", ""),
    Attack("beneath a link to the outside", "link/secret.txt"),
    Attack("beneath a chain of links", "chain/secret.txt"),
    Attack("beneath a link to /proc", "process/root/etc/passwd"),
    Attack("an open file of a process", "process/fd/0"),
    Attack("a link in a circle", "circle/x"),
    Attack("a link to a file outside", "link-file", "files"),
    Attack("a hard link to a file outside", "hard.txt", "files"),
    Attack("a FIFO", "fifo", "files"),
    Attack("a socket", "socket", "files"),
    Attack("a device", "device", "files"),
    Attack("a folder", "calm", "files"),
    Attack("a link to a folder outside", "link", "folders"),
    Attack("a file", "plain.txt", "folders"),
    Attack("the service's own folder", ".tekup-files/trash", "all"),
]  # fmt: skip
FILES: dict[str, dict[str, object]] = {
    "read_file": {},
    "read_bytes": {},
    "edit_file": {"edits": [{"old_text": "a", "new_text": "b"}]},
    "write_file": {"content": "x", "overwrite": True},
    "copy": {"target": "calm/copied"},
}
FOLDERS: dict[str, dict[str, object]] = {
    "list_directory": {}, "tree": {}, "find_files": {"pattern": "*"}, "directory_size": {}
}  # fmt: skip
OTHERS: dict[str, dict[str, object]] = {
    "stat": {},
    "search_content": {"pattern": "may"},
    "delete": {"recursive": True},
    "make_directory": {},
    "move": {"target": "calm/moved"},
}


def calls(attack: Attack) -> Iterator[tuple[str, dict[str, object]]]:
    """The calls an attack is tried with."""
    tools = {"all": FILES | FOLDERS | OTHERS, "files": FILES, "folders": FOLDERS}[attack.tools]
    for tool, arguments in tools.items():
        if attack.path == "calm" and tool == "copy":
            continue  # a folder may be copied
        yield tool, {"source" if tool in {"copy", "move"} else "path": attack.path, **arguments}
    if attack.tools == "all":
        yield "write_file", {"path": f"{attack.path}/inner", "content": "x"}
        yield "copy", {"source": "plain.txt", "target": attack.path}
        yield "move", {"source": "plain.txt", "target": attack.path}
        yield "edit_files", {"edits": [{"path": attack.path, "edits": [{"old_text": "a", "new_text": "b"}]}]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a root, in which everything stands that leads out, and an outside."""
    top = tmp_path_factory.mktemp("attacked")
    root, outside = top / "root", top / "outside"
    for folder in (root / "calm", outside, top / "outside-too"):
        folder.mkdir(parents=True)
        (folder / "secret.txt").write_text("mine" if folder.parent == root else SECRET)
    (root / "plain.txt").write_text("plain")
    for name, target in (
        ("link", outside), ("chain", "link"), ("process", "/proc/self"), ("circle", "circle"),
        ("link-file", outside / "secret.txt"), ("calm/to-root", ".."),
    ):  # fmt: skip
        (root / name).symlink_to(target)
    os.link(outside / "secret.txt", root / "hard.txt")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        if os.geteuid() == 0:
            os.mknod(root / "device", 0o20666, os.makedev(1, 5))
        yield top


@pytest.fixture(scope="module")
def attacked(starter: Starter, world: Path) -> Instance:
    return starter.start("filesystem", MCP_FILESYSTEM_ROOTS=world / "root")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_is_refused_at_once_and_shows_nothing(attacked: Instance, world: Path, attack: Attack) -> None:
    before = _outside(world)
    outside = f"{world}/outside"
    path = attack.path.replace("OUT", outside)
    async with attacked.session() as session:
        for tool, arguments in calls(Attack(attack.name, path, attack.tools)):
            began = time.monotonic()
            said = await session.call(f"filesystem_{tool}", **arguments)
            assert said.error, f"{tool} {arguments}: {said.text[:300]}"
            assert time.monotonic() - began < AT_ONCE_S * BUSY, tool
            told = said.error.replace(path[:150], "")
            assert "\n" not in told
            assert SECRET not in told
            assert outside not in told, f"{tool}: {told}"
            assert "/proc/" not in told
            assert "Traceback" not in told
            assert "unexpectedly" not in told, f"{tool} {arguments}"
    assert _outside(world) == before
    assert (world / "root/plain.txt").read_text() == "plain"


def _outside(world: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in world.glob("outside*/*")}


async def test_hard_links_are_opened_when_an_operator_says_so(starter: Starter, world: Path) -> None:
    instance = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=world / "root", MCP_FILESYSTEM_HARD_LINKS="allow")
    async with instance.session() as session:
        assert (await session.call("filesystem_read_file", path="hard.txt")).text == SECRET
        written = await session.call("filesystem_write_file", path="hard.txt", content="new", overwrite=True)
        assert written.facts["size_bytes"] == 3
    assert (world / "outside/secret.txt").read_text() == SECRET
