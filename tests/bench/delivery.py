"""How soon a shift is verified on two gates, how exact a share is, and how long a broken canary goes on getting calls.

Nothing published could be rerun beside it: Flagger's and Argo's figures are those of their documents (interval times
failures), and stand in the row for comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.tools import Row, percentile
from tests.support import guest
from tests.support.counted import Arguments, Calls
from tests.support.stage import SERVICE, Stage, stage

FLAP_S = 0.1
SHARE_PCT, SHARE_CALLS = 1.0, 20_000
TOOLS: Mapping[str, Arguments] = {
    "ledger_echo": {"text": "again"},
    "ledger_note": {"entry": "noted", "hold_ms": 10},
    "ledger_hurry": {"entry": "hurried", "hold_ms": 5},
}
FAULTS: Mapping[str, Mapping[str, object]] = {
    "every tool fails": {"tool": "*", "error": "drill"},
    "5xx": {"tool": "*", "status": 503},
    "results against the schema": {"tool": "*", "break_schema": True},
    "one tool of three fails": {"tool": "ledger_note", "error": "drill"},
    "one tool of three hangs (2 s)": {"tool": "ledger_hurry", "hang": True},
}
PEERS = "Flagger 10-600 s, Argo 5 min"


def delivery(folder: Path, changes: int) -> list[Row]:
    """All of it.

    Args:
        folder: An empty folder.
        changes: How many shifts.
    """
    with stage(folder) as made:
        made.add_instance("1.1.0")
        made.serving("1.1.0")
        with flapping(made):
            rows = [_verified(made, changes), _exact(made)]
        made.ask("PUT", f"/v1/services/{SERVICE}/traffic", {"weights_pct": {"1.0.0": 100}, "reason": "bench"})
        for number, (name, drill) in enumerate(FAULTS.items(), 2):
            rows.append(asyncio.run(_broken(made, f"1.{number}.0", name, drill)))
    return rows


@contextlib.contextmanager
def flapping(made: Stage) -> Iterator[None]:
    """An instance of another service registers and deregisters ten times a second."""
    ended = threading.Event()
    port = int(made.gates[0].private.rsplit(":", 1)[1])

    def flap() -> None:
        while not ended.wait(FLAP_S / 2):
            guest.register(made.consul.url, "flapper", "f1a9f1", "1", port)
            ended.wait(FLAP_S / 2)
            guest.deregister(made.consul.url, "flapper", "f1a9f1")

    work = threading.Thread(target=flap)
    work.start()
    try:
        yield
    finally:
        ended.set()
        work.join()


def _verified(made: Stage, changes: int) -> Row:
    took = [_shift(made, 1 + number % 2) for number in range(changes)]
    said = f"p50 {percentile(took, 0.5):.0f} ms, p95 {percentile(took, 0.95):.0f} ms"
    return f"shift written to verified on two gates, another service flapping, {changes}", said


def _shift(made: Stage, weight_pct: float) -> float:
    wish = {"weights_pct": {"1.1.0": weight_pct}, "reason": "bench"}
    done = made.ask("PUT", f"/v1/services/{SERVICE}/traffic", wish)
    if not done["in_force"]:
        raise RuntimeError(f"the shift is not in force on {done['waiting_for']}")
    return float(done["in_force_ms"])


def _exact(made: Stage) -> Row:
    _shift(made, SHARE_PCT)
    calls = _calls(made, {"ledger_echo": {"text": "again"}})
    asyncio.run(_make(calls, SHARE_CALLS))
    share = 100 * len(calls.of("1.1.0")) / len(calls.made)
    lost = len(calls.failed)
    return f"share of a lane of {SHARE_PCT:g} %, {len(calls.made):,} calls, flapping", f"{share:.3f} % ({lost} lost)"


async def _make(calls: Calls, count: int) -> None:
    async with calls.running(workers=8):
        while len(calls.made) < count:
            await asyncio.sleep(0.02)


def _calls(made: Stage, tools: Mapping[str, Arguments]) -> Calls:
    return Calls([f"{gate.public}/{SERVICE}/mcp" for gate in made.gates], made.key, tools)


async def _broken(made: Stage, version: str, name: str, drill: Mapping[str, object]) -> Row:
    """A canary at the default steps that breaks as soon as it has answered a call."""
    instance = made.add_instance(version)
    await asyncio.to_thread(made.serving, version)
    calls = _calls(made, TOOLS)
    async with calls.running(workers=8):
        began_s = time.monotonic()
        await asyncio.to_thread(made.begin, version)
        while not calls.of(version):
            await asyncio.sleep(0.05)
        made.drill(version, [dict(drill)])
        broke_s = time.monotonic()
        ended = await asyncio.to_thread(made.reached, "rolled_back", "succeeded", "failed", within_s=180)
        over_s = time.monotonic()
    instance.end()
    if ended["phase"] != "rolled_back":
        raise RuntimeError(f"{name}: {ended['said']}")
    return f"canary: {name}, first bad call to last call on it", _told(calls, version, (began_s, broke_s, over_s))


def _told(calls: Calls, version: str, at: tuple[float, float, float]) -> str:
    began_s, broke_s, over_s = at
    bad = [call for call in calls.failed if call.ended_s > broke_s]
    met = bad + [call for call in calls.of(version) if call.began_s > broke_s]
    took_s = max(call.began_s for call in met) - min(call.ended_s for call in bad or met)
    during = sum(began_s <= call.began_s <= over_s for call in calls.made)
    rate = during / (over_s - began_s)
    return f"{took_s:.1f} s; {100 * len(bad) / during:.2f} % of calls hit at {rate:.0f}/s ({PEERS})"
