"""The filesystem service against the official npm server, on one tree in the same rounds.

Both over HTTP: ours stand-alone, the other behind npm's mcp-proxy; the other's bare stdio beside it. The other sends
everything in one answer and has no bound, so ours is told a bound of 8 MiB for like with like; what its default of 64
KiB sends is said, too. The tree lies in memory where there is room: the other does not wait for the disk after an
edit, and ours does (a row of its own says what that costs).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.tools import Row, Side, load_once, process, ratio, spread
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.programs import program

WHOLE_BYTES = 8 << 20
CLIENTS = (1, 16)
STDIO_S = 2.0
MEMORY = Path("/dev/shm")
OURS_IS = "filesystem / npm"


@dataclass(frozen=True)
class Question:
    """The same asked of both.

    Args:
        what: What.
        ours: Our tool and its arguments; ROOT stands for the tree.
        theirs: The other's.
    """

    what: str
    ours: tuple[str, Mapping[str, object]]
    theirs: tuple[str, Mapping[str, object]]


def _edits(old: str, new: str) -> list[dict[str, str]]:
    there_and_back = [("alpha", "beta"), ("beta", "alpha")]
    return [{old: before, new: after} for before, after in there_and_back]


QUESTIONS = (
    Question("read 1 KB", ("read_file", {"path": "ROOT/small.txt"}), ("read_text_file", {"path": "ROOT/small.txt"})),
    Question("read 1 MB", ("read_file", {"path": "ROOT/large.txt", "limit": 10_000}),
             ("read_text_file", {"path": "ROOT/large.txt"})),
    Question("list 10,000", ("list_directory", {"path": "ROOT/flat", "limit": 10_000, "sizes": False}),
             ("list_directory", {"path": "ROOT/flat"})),
    Question("tree of 20,000", ("tree", {"path": "ROOT/deep", "limit": 20_000, "depth": 9, "gitignore": False}),
             ("directory_tree", {"path": "ROOT/deep"})),
    Question("find over 20,000", ("find_files", {"path": "ROOT/deep", "pattern": "**/*7.txt", "limit": 20_000}),
             ("search_files", {"path": "ROOT/deep", "pattern": "**/*7.txt"})),
    Question("edit", ("edit_file", {"path": "ROOT/edit.txt", "edits": _edits("old_text", "new_text")}),
             ("edit_file", {"path": "ROOT/edit.txt", "edits": _edits("oldText", "newText")})),
)  # fmt: skip


def plant(root: Path) -> None:
    """The tree."""
    (root / "flat").mkdir()
    line = "x" * 99 + "\n"
    (root / "small.txt").write_text((line * 11)[:1024])
    (root / "large.txt").write_text(line * 9_999)
    (root / "edit.txt").write_text("one\n" * 100 + "alpha\n" + "two\n" * 100)
    for number in range(10_000):
        (root / f"flat/file-{number:05}.txt").touch()
    for folder in range(200):
        inner = root / f"deep/part-{folder // 20:02}/folder-{folder:03}"
        inner.mkdir(parents=True)
        for number in range(99):
            (inner / f"file-{number:03}.txt").touch()


def filesystem(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """Calls per second and bytes of answers, ours over the other's."""
    rows: list[Row] = []
    with ExitStack() as held:
        root = Path(held.enter_context(tempfile.TemporaryDirectory(dir=_memory(), prefix="tekup-bench-tree-")))
        plant(root)
        whole = held.enter_context(_ours(folder, root, WHOLE_BYTES))
        bounded = held.enter_context(_ours(folder, root, 64 << 10))
        peer = held.enter_context(_peer(folder, root))
        for question in QUESTIONS:
            sides = [_side(whole, f"filesystem_{question.ours[0]}", question.ours[1], root),
                     _side(peer, *question.theirs, root)]  # fmt: skip
            page = load_once(load, _side(bounded, f"filesystem_{question.ours[0]}", question.ours[1], root), 1, 1)
            stdio = _over_stdio(root, *question.theirs)
            rows += _compared(load, question.what, sides, page["bytes"], stdio, seconds=seconds, rounds=rounds)
    return rows + _on_disk(load, folder, seconds, rounds)


def _compared(
    load: Path, what: str, sides: list[Side], page_bytes: float, stdio: float, *, seconds: int, rounds: int
) -> list[Row]:
    rows: list[Row] = []
    for workers in CLIENTS:
        runs: list[list[dict[str, float]]] = [[], []]
        for _ in range(rounds):
            for number, side in enumerate(sides):
                runs[number].append(_run(load, side, workers, seconds))
        ours, theirs = ([run["per_second"] for run in side] for side in runs)
        used = [[run["cpu_ms"] for run in side] for side in runs]
        rows.append(
            (
                f"{OURS_IS}, {what}, processor ms a call, {workers} clients",
                f"{ratio(*used):.2f}x   {spread(used[0])} / {spread(used[1])}",
            )
        )
        figures = f"{ratio(ours, theirs):.2f}x   {spread(ours)} / {spread(theirs)}; its bare stdio {stdio:.1f}"
        rows.append((f"{OURS_IS}, {what}, calls/s, {workers} clients", figures))
        if workers == 1:
            sent = [side[0]["bytes"] for side in runs]
            figures = f"{sent[0] / sent[1]:.2f}x   {sent[0]:.0f} / {sent[1]:.0f}; bounded {page_bytes:.0f}"
            rows.append((f"{OURS_IS}, {what}, bytes an answer", figures))
    return rows


def _run(load: Path, side: Side, workers: int, seconds: int) -> dict[str, float]:
    """One run, with the processor time of all processes that answered: what counts on a machine with other work."""
    port = int(side.url.split(":")[2].split("/")[0])
    before = _processor_s(port)
    run = load_once(load, side, workers, seconds)
    return run | {"cpu_ms": (_processor_s(port) - before) * 1000 / run["calls"]}


def _processor_s(port: int) -> float:
    """Seconds of processor that the process listening on a port and those it started have used."""
    listening = next(
        one.pid for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
    )  # fmt: skip
    first = psutil.Process(listening)
    times = [one.cpu_times() for one in (first, *first.children(recursive=True))]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def _on_disk(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """What an edit costs where the disk has to be waited for."""
    root = folder / "on-disk"
    root.mkdir()
    (root / "edit.txt").write_text("one\n" * 100 + "alpha\n" + "two\n" * 100)
    edit = QUESTIONS[-1]
    with _ours(folder, root, 64 << 10) as ours, _peer(folder, root) as peer:
        sides = [_side(ours, f"filesystem_{edit.ours[0]}", edit.ours[1], root), _side(peer, *edit.theirs, root)]
        runs = [[load_once(load, side, 1, seconds)["per_second"] for side in sides] for _ in range(rounds)]
    durable, hopeful = ([run[number] for run in runs] for number in (0, 1))
    figures = f"{ratio(durable, hopeful):.2f}x   {spread(durable)} / {spread(hopeful)}"
    return [(f"{OURS_IS}, edit on a disk, synced / not synced, calls/s, 1 client", figures)]


def _memory() -> Path | None:
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30
    return MEMORY if roomy else None


def _side(url: str, tool: str, arguments: Mapping[str, object], root: Path) -> Side:
    given = json.loads(json.dumps(dict(arguments)).replace("ROOT", str(root)))
    sent = headers("", "tools/call", tool) | {"Accept": "application/json, text/event-stream"}
    return Side(url, sent, body("tools/call", {"name": tool, "arguments": given}))


@contextmanager
def _ours(folder: Path, root: Path, answer_bytes: int) -> Iterator[str]:
    port, admin = free_ports(2)
    env = {
        **os.environ,
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "",
        "MCP_FILESYSTEM_ROOTS": str(root),
        "MCP_FILESYSTEM_ANSWER_BYTES": str(answer_bytes),
    }
    command = [sys.executable, "-m", "services.filesystem"]
    with process(command, f"http://127.0.0.1:{admin}/ready", folder / f"ours-{port}.log", env, ready=True):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _peer(folder: Path, root: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream", "--stateless", "--no-eventStore"]
    command = [program("mcp-proxy"), *options, "--", program("filesystem-peer"), str(root)]
    with process(command, f"http://127.0.0.1:{port}/ping", folder / f"peer-{port}.log"):
        yield f"http://127.0.0.1:{port}/mcp"


def _over_stdio(root: Path, tool: str, arguments: Mapping[str, object]) -> float:
    """Calls per second of the other by itself, one after another."""
    given = json.loads(json.dumps(dict(arguments)).replace("ROOT", str(root)))
    with subprocess.Popen(
        [program("filesystem-peer"), str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as peer:  # fmt: skip
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        _asked(peer, "initialize", about)
        _say(peer, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < STDIO_S:
            answer = _asked(peer, "tools/call", {"name": tool, "arguments": given})
            if b'"isError":true' in answer or b'"error":' in answer[:60]:
                raise RuntimeError(f"{tool} failed: {answer[:300]!r}")
            calls += 1
        took = time.perf_counter() - began
        peer.kill()
    return calls / took


def _say(peer: subprocess.Popen[bytes], message: Mapping[str, object]) -> None:
    if peer.stdin is None:
        raise RuntimeError("the peer has no input")
    peer.stdin.write(json.dumps(message).encode() + b"\n")
    peer.stdin.flush()


def _asked(peer: subprocess.Popen[bytes], method: str, params: Mapping[str, object]) -> bytes:
    _say(peer, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    if peer.stdout is None:
        raise RuntimeError("the peer has no output")
    return peer.stdout.readline()
