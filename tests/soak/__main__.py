"""`make soak MINUTES=20`: all services, both eras, versions that come and go; nothing fails, nothing grows."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.e2e.conftest import Environment, make_environment
from tests.soak.samples import Sample, growth, not_flat, sampled, warm
from tests.soak.traffic import PAGE, Traffic
from tests.support.crowd import clients
from tests.support.site import Site, site
from tests.support.tallies import Tallies

RESULTS = Path("soak-results")
SERVICES = ("filesystem", "search", "browser")
SAMPLE_S = 5.0
SLOWER = 0.5
"""Latency may grow by so much of its median, or by a few milliseconds."""
SLOWER_S = 0.01
BUCKET_S = 10.0


def main() -> int:
    """Soak; 1 if something failed or grew."""
    parser = argparse.ArgumentParser(prog="make soak MINUTES=20", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long; 20")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tekup-soak-") as folder, site() as pages:
        pages.pages["/"] = PAGE
        environment = make_environment(Path(folder))
        try:
            environment.start()
            with clients(environment, "soak", hosts=[pages.host]) as keys:
                broken = asyncio.run(_soak(environment, keys["soak"], pages, 60 * asked.minutes))
        finally:
            environment.tekup("down")
    print("\n".join(broken) or "nothing failed, nothing grew")
    return 1 if broken else 0


async def _soak(environment: Environment, key: str, pages: Site, seconds: float) -> list[str]:
    traffic = Traffic(f"{environment.gateway_url}/mcp", key, pages.url())
    (environment.workspace / "soak").mkdir()
    before = _counted(environment)
    samples: dict[str, list[Sample]] = defaultdict(list)
    updates: list[str] = []
    until_s = time.monotonic() + seconds
    began_s = time.monotonic()
    async with traffic.running(), asyncio.TaskGroup() as tasks:
        tasks.create_task(_sampling(environment, samples, until_s))
        tasks.create_task(_updating(environment, updates, until_s))
    lasted_s = time.monotonic() - began_s
    counted = _counted(environment).since(before)
    broken = [f"failed: {said}" for said in traffic.failed[:10]]
    if len(traffic.failed) > len(broken):
        broken.append(f"and {len(traffic.failed) - len(broken)} more calls failed")
    for service in SERVICES:
        theirs = counted.sum("gate", "tekup_gate_client_calls_total", client="soak", service=service)
        if theirs != traffic.sent[service]:
            broken.append(f"{service}: {traffic.sent[service]} calls were sent, and the gate counts {theirs}")
    for group, mine in sorted(samples.items()):
        broken += not_flat(group, mine)
    broken += _slower(traffic)
    _tell(traffic, samples, updates, lasted_s)
    return broken


def _counted(environment: Environment) -> Tallies:
    port = environment.ports["MCP_PRIVATE_PORT"]
    return Tallies([("gate", "", f"http://127.0.0.1:{port}/metrics")])


async def _sampling(environment: Environment, samples: dict[str, list[Sample]], until_s: float) -> None:
    while time.monotonic() < until_s:
        shown = await asyncio.to_thread(environment.status)
        pids: dict[str, list[int]] = defaultdict(list)
        for process in shown.processes:
            if process.pid:
                pids[process.group].append(process.pid)
        for group, sample in (await asyncio.to_thread(sampled, pids)).items():
            samples[group].append(sample)
        await asyncio.sleep(SAMPLE_S)


async def _updating(environment: Environment, updates: list[str], until_s: float) -> None:
    """The next version beside the old one, all calls to it, the old one away; one service after the other."""
    version = dict.fromkeys(SERVICES, "0.1.0")
    for number, service in enumerate(itertools.cycle(SERVICES)):
        if time.monotonic() > until_s - 30:
            return
        old, new = version[service], f"1.{number}.0"
        steps = (
            ("scale", f"{service}=1", "--version", new),
            ("traffic", "set", service, f"{new}=100", "--reason", "soak"),
            ("scale", f"{service}=0", "--version", old),
        )
        for step in steps:
            done = await asyncio.to_thread(environment.tekup, *step)
            assert done.returncode == 0, f"tekup {' '.join(step)}: {done.stderr}"
        version[service] = new
        updates.append(f"{service} {old} to {new}")


def _slower(traffic: Traffic) -> list[str]:
    said: list[str] = []
    for service in SERVICES:
        points = _latency(traffic, service)
        added, usual = growth(points)
        if added > max(SLOWER * usual, SLOWER_S):
            said.append(f"{service}: the median of a call grows by {1000 * added:.0f} ms from {1000 * usual:.0f} ms")
    return said


def _latency(traffic: Traffic, service: str) -> Sequence[tuple[float, float]]:
    """The median of each ten seconds, after the beginning."""
    buckets: dict[float, list[float]] = defaultdict(list)
    for call in traffic.timed:
        if call.service == service:
            buckets[call.began_s // BUCKET_S * BUCKET_S].append(call.took_s)
    return warm(sorted((at, statistics.median(took)) for at, took in buckets.items()))


def _shown(one: Sample) -> tuple[float, ...]:
    return one.memory_mib, one.descriptors, one.processes


def _tell(traffic: Traffic, samples: dict[str, list[Sample]], updates: list[str], lasted_s: float) -> None:
    print(f"{lasted_s / 60:.1f} minutes, {sum(traffic.sent.values())} calls ({dict(traffic.sent)}), "
          f"{traffic.sessions} sessions, {len(updates)} updates, {len(traffic.failed)} failed")  # fmt: skip
    for group, mine in sorted(samples.items()):
        usual = [statistics.median(values) for values in zip(*map(_shown, warm(mine)), strict=True)]
        added = [growth([(one.at_s, _shown(one)[at]) for one in warm(mine)])[0] for at in range(3)]
        print(f"  {group:14} {usual[0]:7.1f} MiB ({added[0]:+.1f})  {usual[1]:5.0f} descriptors ({added[1]:+.0f})  "
              f"{usual[2]:3.0f} processes ({added[2]:+.0f})")  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "samples.json").write_text(
        json.dumps({group: [asdict(one) for one in mine] for group, mine in samples.items()})
    )


if __name__ == "__main__":
    sys.exit(main())
