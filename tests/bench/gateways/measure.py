"""What is measured of a gateway: calls, processor, memory, sessions, long lists, and a server that dies."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.bench.gateways.gateway import OLDER, Gateway
from tests.bench.tools import load_command, loaded

SETTLE_S = 2.0
SESSIONS = 200
AFTER_S, LASTS_S = 2.0, 8
CHANGES, EACH_S = 10, 0.5
MIB = 1 << 20


@dataclass(frozen=True)
class Lane:
    """One gateway asked in one era."""

    name: str
    gateway: Gateway
    modern: bool

    @property
    def era(self) -> str:
        """As the page calls it."""
        return "2026-07-28" if self.modern else OLDER


@dataclass(frozen=True)
class Calls:
    """Runs of one lane with so many clients.

    Args:
        per_second: Good calls in each run.
        p50_ms: Of each run, as the others.
        p95_ms: See above.
        p99_ms: See above.
        failed: Calls that were not answered well, of all runs.
        cpu_ms: Of the gateway's processes for each call, over all runs.
    """

    per_second: tuple[float, ...]
    p50_ms: tuple[float, ...]
    p95_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]
    failed: int
    cpu_ms: float

    @property
    def times_ms(self) -> tuple[float, float, float]:
        """The medians of p50, p95 and p99."""
        return statistics.median(self.p50_ms), statistics.median(self.p95_ms), statistics.median(self.p99_ms)

    @property
    def rate(self) -> float:
        """The median of calls per second."""
        return statistics.median(self.per_second)


def lanes(gateways: Mapping[str, Gateway]) -> list[Lane]:
    """Every gateway in every era that it speaks."""
    return [Lane(name, one, era) for name, one in gateways.items() for era in (True, False) if one.modern or not era]


def calls(
    load: Path, found: Sequence[Lane], clients: int, seconds: int, rounds: int, method: str = "tools/call"
) -> list[Calls]:
    """Load each lane in turn, round after round, so that the machine's moods meet all alike."""
    runs: list[list[dict[str, float]]] = [[] for _ in found]
    cpu_s = [0.0] * len(found)
    for turn in range(rounds + 1):
        for at, lane in enumerate(found):
            before_s = cpu(lane.gateway.processes)
            figures = loaded(load, lane.gateway.side(method, modern=lane.modern), clients, seconds if turn else 1)
            if turn:
                runs[at].append(figures)
                cpu_s[at] += cpu(lane.gateway.processes) - before_s
    return [_calls(of, spent_s) for of, spent_s in zip(runs, cpu_s, strict=True)]


def _calls(runs: Sequence[Mapping[str, float]], cpu_s: float) -> Calls:
    per_second, p50, p95, p99 = (
        tuple(run[name] for run in runs) for name in ("per_second", "p50_ms", "p95_ms", "p99_ms")
    )
    made = sum(run["calls"] for run in runs)
    return Calls(per_second, p50, p95, p99, int(sum(run["failures"] for run in runs)), 1000 * cpu_s / made)


def cpu(processes: Iterable[psutil.Process]) -> float:
    """Seconds that processes have spent, with all they have started."""
    spent_s = 0.0
    for one in _all(processes):
        with suppress(psutil.Error):
            times = one.cpu_times()
            spent_s += times.user + times.system
    return spent_s


def memory_mib(processes: Iterable[psutil.Process]) -> float:
    """Memory of their own that processes hold, with all they have started."""
    held = 0
    for one in _all(processes):
        with suppress(psutil.Error):
            held += one.memory_full_info().uss
    return held / MIB


def _all(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [one for top in processes for one in (top, *top.children(recursive=True))]


def session_kib(gateway: Gateway) -> float:
    """What a session that does nothing costs, in KiB: the growth over some hundred of them."""
    before = memory_mib(gateway.processes)
    with httpx.Client(timeout=60, trust_env=False) as client:
        for _ in range(SESSIONS):
            gateway.begin(client)
        time.sleep(SETTLE_S)
        return 1024 * (memory_mib(gateway.processes) - before) / SESSIONS


@dataclass(frozen=True)
class Death:
    """What came of calls when one server of three was killed.

    Args:
        calls: Made in all.
        failed: Of them.
        noticed_s: From the kill to the last failed call; 0 when none failed.
    """

    calls: int
    failed: int
    noticed_s: float


def death(load: Path, lane: Lane, victim: psutil.Process) -> Death:
    """Kill a server under the load of eight clients."""
    figures, killed_s = _under_load(load, lane, victim.kill)
    failed = int(figures["failures"])
    return Death(int(figures["calls"]), failed, max(0.0, figures["last_error_s"] - killed_s) if failed else 0.0)


@dataclass(frozen=True)
class Changed:
    """What came of calls while the configuration was changed, `CHANGES` times, one each `EACH_S` seconds.

    Args:
        calls: Made in all.
        failed: Of them.
    """

    calls: int
    failed: int


def changed(load: Path, lane: Lane) -> Changed:
    """Change what can be changed of a running gateway under the load of eight clients."""

    def change() -> None:
        assert lane.gateway.change
        began_s = time.monotonic()
        for number in range(1, CHANGES + 1):
            lane.gateway.change(number)
            time.sleep(max(0.0, began_s + number * EACH_S - time.monotonic()))

    figures, _ = _under_load(load, lane, change)
    return Changed(int(figures["calls"]), int(figures["failures"]))


def _under_load(load: Path, lane: Lane, happens: Callable[[], object]) -> tuple[dict[str, float], float]:
    """What eight clients met while something happened, and how many seconds after their start it began."""
    side = lane.gateway.side(modern=lane.modern)
    with subprocess.Popen(
        load_command(load, side, 8, LASTS_S), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin
        running.stdin.write(json.dumps(side.body))
        running.stdin.close()
        began_s = time.monotonic()
        time.sleep(AFTER_S)
        at_s = time.monotonic() - began_s
        happens()
        assert running.stdout
        figures: dict[str, float] = json.loads(running.stdout.read())
    return figures, at_s
