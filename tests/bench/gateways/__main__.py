"""`make bench-peers`: this platform's gate and other people's gateways before the same servers, in the same run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.bridges import bridges
from tests.bench.gateways.gateway import Gateway
from tests.bench.gateways.measure import Death, Lane, calls, changed, death, lanes, memory_mib, session_kib
from tests.bench.gateways.page import Found, Measured, document, lines, plot
from tests.bench.gateways.standing import STANDS, missing, servers, standing
from tests.bench.tools import ROOT, build_load, keep, shown

CLIENTS = (1, 8, 64)
SERVERS = 3
TOOLS = 1000


def main() -> int:
    """Measure what is asked for, print it, keep it."""
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="length of one run (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each gateway, in turn (default 3)")
    parser.add_argument("--only", choices=STANDS, nargs="+", default=list(STANDS), help="these gateways (default all)")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and its picture")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tekup-peers-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # the browser runs as another user
        load = build_load(folder)
        found = _found(load, folder, asked.only, asked.seconds, asked.rounds)
    print("\n".join(map(shown, lines(found))))
    print(f"kept in {keep('peers-', asdict(found))}")
    if asked.docs:
        (ROOT / "docs" / "benchmarks.md").write_text(document(found))
        (ROOT / "docs" / "pictures" / "benchmarks.svg").write_text(plot(found))
    return 0


def _found(load: Path, folder: Path, wanted: Sequence[str], seconds: int, rounds: int) -> Found:
    without = missing(wanted)
    names = [name for name in wanted if name not in without]
    measured = _measured(load, folder, names, seconds, rounds)
    carried = bridges(load, folder, seconds, rounds)
    machine = f"{os.cpu_count()} cores, {platform.system()}"
    return Found(measured, carried, without, seconds, rounds, machine, time.strftime("%Y-%m-%d"))


def _measured(load: Path, folder: Path, names: Sequence[str], seconds: int, rounds: int) -> list[Measured]:
    with servers(load, SERVERS, 1, folder) as behind:
        ports = [port for port, _ in behind]
        with standing(folder / "calls", ports, names) as gateways:
            empty = {name: memory_mib(one.processes) for name, one in gateways.items()}
            beside = {name: memory_mib(one.beside) for name, one in gateways.items()}
            made = lanes(gateways)
            by_clients = {clients: calls(load, made, clients, seconds, rounds) for clients in CLIENTS}
            loaded = {name: memory_mib(one.processes) for name, one in gateways.items()}
            idle = {name: session_kib(one) for name, one in gateways.items() if one.processes}
            changes = {(lane.name, lane.modern): changed(load, lane) for lane in made if lane.gateway.change}
    deaths = {(lane.name, lane.modern): _death(load, folder, lane) for lane in made if lane.gateway.spreads}
    with (
        servers(load, 1, TOOLS, folder) as behind,
        standing(folder / "lists", [port for port, _ in behind], names) as gateways,
    ):
        many = lanes(gateways)
        listed = dict(zip(_names(many), calls(load, many, 8, seconds, 1, "tools/list"), strict=True))
    return [
        Measured(
            name=lane.name,
            era=lane.era,
            on=lane.gateway.on,
            calls={clients: found[at] for clients, found in by_clients.items()},
            memory_mib=(empty[lane.name], loaded[lane.name]),
            beside_mib=beside[lane.name],
            session_kib=None if lane.modern else idle.get(lane.name),
            death=deaths.get((lane.name, lane.modern)),
            changed=changes.get((lane.name, lane.modern)),
            listed=listed.get((lane.name, lane.modern)),
        )
        for at, lane in enumerate(made)
    ]


def _names(of: Sequence[Lane]) -> list[tuple[str, bool]]:
    return [(lane.name, lane.modern) for lane in of]


def _death(load: Path, folder: Path, lane: Lane) -> Death:
    """In a stand of its own, since what has died stays dead."""
    own = Path(tempfile.mkdtemp(dir=folder))
    own.chmod(0o755)
    with servers(load, SERVERS, 1, own) as behind, standing(own, [port for port, _ in behind], [lane.name]) as alone:
        gateway: Gateway = alone[lane.name]
        return death(load, Lane(lane.name, gateway, lane.modern), behind[-1][1])


if __name__ == "__main__":
    sys.exit(main())
