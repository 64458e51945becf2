"""`make capacity`: what more of everything costs, and whether a line through a few sizes foretells another."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.bench.tools import ROOT, build_load, keep
from tests.capacity.model import Curve, document, lines
from tests.capacity.stand import PER_S, Cost, Grown
from tests.support.consul_process import ConsulProcess
from tests.support.stage import stage

GATES = (1, 2, 3)
INSTANCES = (1, 2, 4, 8)
SERVICES = (3, 50, 100, 150, 200)
TOOLS = (500, 1_000, 2_500, 4_000, 5_000)
ROLLOUTS = (1, 25, 50, 75, 100)
CLIENTS = (1, 2_500, 5_000, 7_500, 10_000)
CHANGE_WRITES = "Consul writes for a change"
SMALL_MIB, SMALL_MS, SMALL_WRITES, SMALL_IDLE = 3.0, 15.0, 0.5, 9.0
"""What two measurings of the same differ by; of writes in twenty idle seconds it is three: nine a minute."""


def main() -> int:
    """Measure all curves; 1 if a line does not foretell the point that was left out."""
    parser = argparse.ArgumentParser(prog="make capacity ARGS=…", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="write docs/capacity.md")
    parser.add_argument("--only", choices=CURVES, nargs="+", default=list(CURVES), help="these curves (default all)")
    asked = parser.parse_args()
    curves: list[Curve] = []
    with tempfile.TemporaryDirectory(prefix="tekup-capacity-") as made:
        load = build_load(Path(made))
        for name in asked.only:
            folder = Path(made) / name
            folder.mkdir()
            found = CURVES[name](load, folder)
            print("\n".join(lines(found)), flush=True)
            curves += found
    keep("capacity-", [asdict(one) for one in curves])
    if asked.docs:
        machine = f"{os.cpu_count()} cores, {platform.system()}"
        (ROOT / "docs" / "capacity.md").write_text(document(curves, machine, time.strftime("%Y-%m-%d")))
    return 0 if all(one.holds for one in curves) else 1


def _consul(folder: Path) -> ConsulProcess:
    return ConsulProcess(folder, limits={"http_max_conns_per_client": 1000})  # as consul/agent.json has it


@contextmanager
def _stand(load: Path, folder: Path, gates: int = 1) -> Iterator[Grown]:
    # A session that lasts: a disk that is busy for a second changes no leader.
    with (
        ExitStack() as life,
        stage(folder, gates=[30] * gates, registry=_consul, MCP_SESSION_TTL_S="30") as made,
    ):
        made.ask("PUT", "/v1/clients/dev/limits/size", {"per_s": PER_S, "reason": "capacity"})
        yield Grown(made, load, life)


def _of(by: str, sizes: Sequence[int], costs: Sequence[Cost]) -> list[Curve]:
    def points(value: Callable[[Cost], float]) -> list[tuple[float, float]]:
        return [(size, value(cost)) for size, cost in zip(sizes, costs, strict=True)]

    return [
        Curve("memory a gate keeps, MiB", by, points(lambda one: one.gate_mib), SMALL_MIB),
        Curve("a change in force on every gate, ms", by, points(lambda one: one.change_ms), SMALL_MS),
        Curve(CHANGE_WRITES, by, points(lambda one: one.change_writes), SMALL_WRITES),
        Curve("Consul writes a minute, idle", by, points(lambda one: one.idle_writes), SMALL_IDLE),
        Curve("control planes and agents, idle, % of a processor", by, points(lambda one: one.idle_cpu_pct), 1.0),
    ]


def _gates(load: Path, folder: Path) -> list[Curve]:
    costs = []
    for number in GATES:
        own = folder / str(number)
        own.mkdir()
        with _stand(load, own, number) as grown:
            costs.append(grown.cost())
    return _of("gates", GATES, costs)


def _grown(by: str, sizes: Sequence[int], grow: Callable[[Grown, int], None]) -> Callable[[Path, Path], list[Curve]]:
    def measured(load: Path, folder: Path) -> list[Curve]:
        costs = []
        with _stand(load, folder) as grown:
            for size in sizes:
                grow(grown, size)
                costs.append(grown.cost())
        return _of(by, sizes, costs)

    return measured


def _rollouts(load: Path, folder: Path) -> list[Curve]:
    """Without writes for a change: those that rollouts make of themselves meanwhile are many more."""
    found = _grown("rollouts under way", ROLLOUTS, Grown.grow_rollouts)(load, folder)
    return [one for one in found if one.what != CHANGE_WRITES]


def _tools(load: Path, folder: Path) -> list[Curve]:
    found = []
    with _stand(load, folder) as grown:
        for size in TOOLS:
            grown.grow_tools(size)
            found.append((size, grown.hub_cost()))
    return [
        Curve("a search among all tools at the hub, ms", "tools", [(n, one.find_ms) for n, one in found], SMALL_MS),
        Curve("memory a hub holds, MiB", "tools", [(n, one.hub_mib) for n, one in found], SMALL_MIB),
    ]


CURVES: dict[str, Callable[[Path, Path], list[Curve]]] = {
    "gates": _gates,
    "instances": _grown("instances", INSTANCES, Grown.grow_instances),
    "services": _grown("services", SERVICES, Grown.grow_services),
    "tools": _tools,
    "rollouts": _rollouts,
    "clients": _grown("clients with a key", CLIENTS, Grown.grow_clients),
}


if __name__ == "__main__":
    sys.exit(main())
