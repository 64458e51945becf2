"""How fast a running search service is on large trees, against ripgrep on the same tree in the same run."""

from __future__ import annotations

import contextlib
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.tools import Row, percentile, process, wait_until
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.programs import program

SOURCES = Path(httpx.__file__).parents[1]
LARGEST_BYTES = 60_000
BUILD_S = 600.0
REPEATS = 5
IDLE_S, IDLE_PERCENT = 1.0, 10
QUESTIONS = (
    "read the headers of a response", "parse a date with a time zone", "open a connection with a timeout",
    "validate a schema and collect its errors", "retry a request that failed", "write bytes to a temporary file",
    "compare two versions of a package", "split a path into its parts", "encode a token in base64",
    "wait for a process to end", "find the first matching rule", "convert a value to an integer",
)  # fmt: skip


@dataclass
class Service:
    """A running search service."""

    url: str
    http: httpx.Client
    pid: int

    def call(self, tool: str, **arguments: object) -> dict[str, object]:
        """One call; its facts."""
        answer = self.http.post(
            self.url,
            json=body("tools/call", {"name": tool, "arguments": arguments}),
            headers=headers("none", "tools/call", tool),
        )
        text = answer.text if answer.text.startswith("{") else answer.text.partition("data: ")[2]
        result = httpx.Response(200, text=text).json()["result"]
        if result.get("isError"):
            raise RuntimeError(f"{tool} {arguments}: {result['content']}")
        facts: dict[str, object] = result["structuredContent"]
        return facts

    def status(self) -> dict[str, Any]:
        """The state of its index."""
        roots: Any = self.call("search_status")["roots"]
        found: dict[str, Any] = roots[0]
        return found

    def peak_mb(self) -> float:
        """The most memory it ever had, without the programs it starts."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found.group(1)) / 1024 if found else 0.0


def tree(folder: Path, files: int) -> Path:
    """So many files of code: those of installed packages, copied with a word of their own until there are enough."""
    sources = [path for path in sorted(SOURCES.rglob("*.py")) if 200 < path.stat().st_size < LARGEST_BYTES]
    for number in range(files):
        source = sources[number % len(sources)]
        put = folder / f"part{number // 500:03}" / f"{source.parent.name}_{source.stem}_{number}.py"
        put.parent.mkdir(parents=True, exist_ok=True)
        put.write_bytes(source.read_bytes() + f"\nmark_{number:06} = {number}\n".encode())
    return folder


@contextlib.contextmanager
def serving(root: Path, folder: Path, *, embeddings: bool = False) -> Iterator[Service]:
    """A service of its own, with its index on disk."""
    port, admin = free_ports(2)
    env = {
        **os.environ,
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "",
        "MCP_SEARCH_ROOTS": str(root),
        "MCP_SEARCH_INDEX_FOLDER": str(folder / "index"),
        "MCP_SEARCH_EMBEDDINGS": str(embeddings).lower(),
        "MCP_TOOL_DEADLINE_S": "120",
    }
    command = [sys.executable, "-m", "services.search"]
    with process(command, f"http://127.0.0.1:{admin}/ready", folder / "search.log", env, ready=True):
        mine = {child.pid for child in psutil.Process().children() if "services.search" in " ".join(child.cmdline())}
        with httpx.Client(timeout=150) as http:
            yield Service(f"http://127.0.0.1:{port}/mcp", http, max(mine))


def timed(work: Callable[[], object]) -> float:
    """How many milliseconds something takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def pairs(service: Service, root: Path, patterns: Sequence[str]) -> tuple[list[float], list[float], list[float]]:
    """Each pattern by ripgrep, by the service for the first time, and again; in turn, so that both meet the same."""
    rg = program("rg")
    theirs, first, again = [], [], []
    for pattern in patterns:
        command = [rg, "--no-config", "--json", "-S", "-e", pattern, "--", "./"]

        def itself(command: Sequence[str] = command) -> None:
            subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)

        def ours(pattern: str = pattern) -> None:
            service.call("search_grep", pattern=pattern, path=str(root), limit=50)

        theirs.append(timed(itself))
        first.append(timed(ours))
        again.append(min(timed(ours) for _ in range(3)))
    return theirs, first, again


def patterns_for(files: int) -> list[str]:
    """Patterns that match nowhere, in one file, in many files and nearly everywhere; none twice."""
    chance = random.Random(files)
    made = [f"nowhere_{number}" for number in range(REPEATS)]
    made += [f"mark_{chance.randrange(files):06}" for _ in range(REPEATS)]
    made += [rf"def \w+_{word}\(" for word in ("file", "name", "path", "type", "all")]
    made += ["TODO", "return None", r"import \w+ as", "raise ValueError", r"\bself\.\w+ = "]
    return made


def ratios(what: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """The median of the ratios of pairs, and the medians themselves."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return what, f"{ratio:.2f}x   {statistics.median(ours):.0f} / {statistics.median(theirs):.0f} ms"


def of_tools(service: Service, root: Path, name: str) -> list[Row]:
    """p50 and p95 of each tool, warm."""
    some = sorted(root.rglob("*.py"))[:: max(1, sum(1 for _ in root.rglob("*.py")) // 12)]
    asked: dict[str, list[dict[str, object]]] = {
        "search_text": [{"query": question} for question in QUESTIONS],
        "search_files": [{"query": path.stem[:20], "path": str(root)} for path in some],
        "search_related": [{"path": str(path), "line": 1} for path in some],
        "search_definition": [{"name": f"mark_{number:06}"} for number in range(3)],
        "search_symbols": [{"path": str(path)} for path in some],
        "search_status": [{}] * 10,
    }
    rows: list[Row] = []
    for tool, arguments in asked.items():
        times = [timed(lambda one=one, tool=tool: service.call(tool, **one)) for one in [*arguments, *arguments]]  # type: ignore[misc]
        warm = times[len(arguments) :]
        rows.append((f"{name}: {tool}, p50 / p95 ms", f"{percentile(warm, 0.5):.0f} / {percentile(warm, 0.95):.0f}"))
    return rows


def with_meaning(service: Service, name: str) -> list[Row]:
    """Questions whose passages have their vectors, and how long until they had."""

    def meant(question: str) -> bool:
        return "embeddings" in str(service.call("search_text", query=question)["layers"])

    wait_until(lambda: bool(service.status()["state"] == "ready"), "the index", BUILD_S)
    began = time.perf_counter()
    for question in QUESTIONS:
        wait_until(lambda question=question: meant(question), "vectors", BUILD_S)  # type: ignore[misc]
    seconds = time.perf_counter() - began

    def asked(when: str) -> Row:
        times = [timed(lambda question=question: meant(question)) for _ in range(REPEATS) for question in QUESTIONS]  # type: ignore[misc]
        both = f"{percentile(times, 0.5):.0f} / {percentile(times, 0.95):.0f}"
        return f"{name}: search_text with embeddings, {when}, p50 / p95 ms", both

    busy = asked("while more vectors are made")
    itself = psutil.Process(service.pid)
    wait_until(lambda: itself.cpu_percent(interval=IDLE_S) < IDLE_PERCENT, "the last vector", BUILD_S)
    return [(f"{name}: vectors for {len(QUESTIONS)} new questions, s", f"{seconds:.0f}"), busy, asked("warm")]


def one_file_update(service: Service, root: Path) -> list[float]:
    """From the end of a write to the end of a question that finds it."""
    (path, *_) = sorted(root.rglob("*.py"))
    times = []
    for number in range(2 * REPEATS):
        path.write_text(f"changed_{number}_here = 1\n" * 30)

        def asked(word: str = f"changed_{number}_here") -> None:
            if not service.call("search_text", query=word, limit=3)["hits"]:
                raise RuntimeError(f"{word} was not found")

        times.append(timed(asked))
    return times


def speed(folder: Path, sizes: Sequence[int]) -> list[Row]:
    """All of it, for trees of so many files."""
    rows: list[Row] = []
    for files in sizes:
        place = folder / str(files)
        root = tree(place / "tree", files)
        name = f"{files} files"
        began = time.perf_counter()
        with serving(root, place) as service:
            answered = timed(lambda service=service: service.call("search_text", query=QUESTIONS[0]))  # type: ignore[misc]

            def built(service: Service = service) -> bool:
                status = service.status()
                return bool(status["state"] == "ready" and status["watched"])

            wait_until(built, "the index", BUILD_S)
            seconds = time.perf_counter() - began
            rows.append((f"{name}: cold index with the service's start, s", f"{seconds:.1f}"))
            rows.append((f"{name}: first question, while it is built, ms", f"{answered:.0f}"))
            theirs, first, again = pairs(service, root, patterns_for(files))
            rows.append(ratios(f"{name}: search_grep / rg --json, patterns not seen before", first, theirs))
            rows.append(ratios(f"{name}: search_grep / rg --json, patterns seen before", again, theirs))
            rows += of_tools(service, root, name)
            times = one_file_update(service, root)
            rows.append(
                (
                    f"{name}: one file changed until found, p50 / p95 ms",
                    f"{percentile(times, 0.5):.0f} / {percentile(times, 0.95):.0f}",
                )
            )
            size = sum(path.stat().st_size for path in root.rglob("*.py"))
            rows.append((f"{name}: peak memory, MB", f"{service.peak_mb():.0f}"))
            rows.append(
                (
                    f"{name}: index / tree, bytes",
                    f"{service.status()['index_bytes'] / size:.2f}x   {size / 1e6:.0f} MB of code",
                )
            )
        with serving(root, place, embeddings=True) as service:
            rows += with_meaning(service, name)
    return rows
