"""What the benchmarks share: the load program, processes, ratios of alternating runs."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_S = 60.0


def build_load(folder: Path) -> Path:
    """Compile the load program; Go comes from where ``make up`` takes it."""
    built = folder / "load"
    subprocess.run([program("go"), "build", "-o", built, "."], check=True, cwd=HERE / "load")
    return built


@contextlib.contextmanager
def process(
    command: Sequence[str | Path], url: str, log: Path, env: Mapping[str, str] | None = None, *, ready: bool = False
) -> Iterator[None]:
    """Run a process while the block lasts; it must answer on the URL first, with `ready` well."""
    with log.open("ab") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=ROOT)
    try:
        deadline_s = time.monotonic() + START_S
        while not _answers(url, well=ready):
            if running.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{command[0]} does not answer on {url}:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_until(true: Callable[[], bool], what: str, within_s: float) -> None:
    """Poll until something is so; an HTTP error counts as not yet.

    Raises:
        RuntimeError: It did not come in time.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        with contextlib.suppress(urllib.error.HTTPError):
            if true():
                return
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(0.1)


def _answers(url: str, *, well: bool) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return not well
    except OSError:
        return False


@dataclass(frozen=True)
class Figures:
    """What one side did, over its runs.

    Attributes:
        per_second: Good calls per second, of each run.
        p50_ms: Median time of a call in milliseconds, of each run.
    """

    per_second: tuple[float, ...]
    p50_ms: tuple[float, ...]


@dataclass(frozen=True)
class Side:
    """One of two that are compared."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, object]


def compare(load: Path, sides: Sequence[Side], *, workers: int, seconds: int, rounds: int) -> list[Figures]:
    """Load each side in turn, round after round, so that the machine's moods meet both alike.

    Raises:
        RuntimeError: A call failed; then the figures mean nothing.
    """
    runs: list[list[dict[str, float]]] = [[] for _ in sides]
    for turn in range(rounds + 1):
        for number, side in enumerate(sides):
            figures = load_once(load, side, workers, seconds if turn else 1)
            if turn:
                runs[number].append(figures)
    return [Figures(tuple(one["per_second"] for one in side), tuple(one["p50_ms"] for one in side)) for side in runs]


def load_once(load: Path, side: Side, workers: int, seconds: int) -> dict[str, float]:
    """Load one side once; calls, times in milliseconds and failures, as the load program prints them.

    Raises:
        RuntimeError: A call failed.
    """
    figures = loaded(load, side, workers, seconds)
    if figures["failures"]:
        raise RuntimeError(f"{figures['failures']} of {figures['calls']} calls failed: {figures['first_error']}")
    return figures


def loaded(load: Path, side: Side, workers: int, seconds: int) -> dict[str, float]:
    """The same, whatever becomes of the calls."""
    command = load_command(load, side, workers, seconds)
    done = subprocess.run(command, input=json.dumps(side.body), text=True, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def load_command(load: Path, side: Side, workers: int, seconds: int) -> list[str | Path]:
    """How the load program is run; it reads the body."""
    headers = [f"{name}={value}" for name, value in side.headers.items()]
    return [load, "call", side.url, str(workers), str(seconds), *headers]


def shown(text: str) -> str:
    """Figures for a terminal of 80 columns."""
    return textwrap.fill(text, 80, subsequent_indent="      ")


def many(clients: int) -> str:
    """So many clients, in words."""
    return f"{clients} client" if clients == 1 else f"{clients} clients"


def keep(name: str, found: object) -> Path:
    """Keep what was found in `bench-results/`; where, from the root."""
    results = ROOT / "bench-results"
    results.mkdir(exist_ok=True)
    path = results / f"{name}{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path.relative_to(ROOT)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of paired runs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Median and range, short."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


Row = tuple[str, str]
Bench = Callable[[Path, Path], list[Row]]
