"""Instances killed with -9 under load: what that costs, and that no call runs twice."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import Called, Crowd, Speaker
from tests.support.ledgers import Ledgers, three_ledgers
from tests.support.sdk import LEGACY, MODERN, instance_of, sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
SPEAKERS = 8
HOLD_MS = 400


async def note_and_keep_a_book(speaker: Speaker) -> None:
    """A short and a longer call on whatever instance, and the same on a book of one's own, opened anew when gone."""
    if "handle" not in speaker.memory:
        opened = await speaker.call("ledger_open")
        if opened.result is None:
            return
        speaker.memory["handle"] = opened.result["handle"]
    for hold_ms in (0, HOLD_MS):
        await speaker.call("ledger_note", entry=speaker.entry(), hold_ms=hold_ms)
        kept = await speaker.call("ledger_add", handle=speaker.memory["handle"], entry=speaker.entry(), hold_ms=hold_ms)
        if kept.gone:
            del speaker.memory["handle"]
            return


def judge(calls: list[Called], ledgers: Ledgers, killed: set[str]) -> Counter[str]:
    """Hold every single call against the ledgers; returns how the failed ones failed."""
    runs, kinds = ledgers.runs(), Counter[str]()
    assert max(runs.values()) == 1, f"run twice: {[entry for entry, times in runs.items() if times > 1]}"
    sent = [call.arguments["entry"] for call in calls if "entry" in call.arguments]
    assert len(sent) == len(set(sent))
    assert runs.keys() <= set(sent)
    for call in calls:
        entry, answer = call.arguments.get("entry", ""), call.answer
        if "handle" in call.arguments and not answer.ok:
            assert instance_of(call.arguments["handle"]) in killed, call
        where = ledgers.where(entry) if entry else []
        if answer.result is not None:
            assert not entry or where == [answer.result["instance"]], call
            assert not entry or ledgers.steps(where[0])[entry] == ["begun", "done"], call
        elif answer.gone:
            assert not where, call
            kinds["gone"] += 1
        elif answer.hung_up:
            assert set(where) <= killed, call
            kinds["hung up on"] += 1
        elif answer.code == 503:
            assert not where, f"said not to be sent, and has run: {call}"
            kinds["not sent"] += 1
        else:
            assert answer.code == 502, call
            assert answer.may_have_run, call
            assert set(where) <= killed, call
            kinds["lost in the middle" if where else "lost on the way"] += 1
    return kinds


@pytest.mark.feature("A12", "A13", "A4")
@pytest.mark.parametrize("kills", [3, pytest.param(15, marks=pytest.mark.long)])
async def test_a_killed_instance_costs_only_the_calls_it_was_in_and_its_handles_and_nothing_runs_twice(
    environment: Any, tmp_path: Path, kills: int
) -> None:
    url = f"{environment.gateway_url}/mcp"
    killed: set[str] = set()
    crowd = Crowd(url, [environment.key] * SPEAKERS, note_and_keep_a_book)
    async with (
        sdk_client(url, environment.key, MODERN) as onlooker,
        three_ledgers(environment, tmp_path, onlooker) as (ledgers, instances),
    ):
        async with crowd.speaking():
            for _ in range(kills):
                victim = instances.pop(0)

                async def busy(victim: str = victim) -> bool:
                    return len(ledgers.running_in(victim)) > 1

                await eventually(busy, f"{victim} to be in the middle of calls", 60)
                ledgers.send(victim, signal.SIGKILL)
                killed.add(victim)
                await crowd.more(4)
                instances.append(ledgers.start())
                await ledgers.all_known(onlooker, *instances)
        kinds = judge(crowd.calls, ledgers, killed)
    assert kinds["lost in the middle"] >= kills, "the kills met no call"
    assert kinds["gone"] >= 1
    # Whoever has a call under way can lose it; it may also meet a connection not yet known to be closed.
    elsewhere = [call for call in crowd.failed() if "handle" not in call.arguments]
    assert len(elsewhere) <= kills * SPEAKERS, elsewhere
    assert {call.mode for call in crowd.calls} == {MODERN, LEGACY}
