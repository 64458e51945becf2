"""Three replicas as processes over a real Consul: whatever befalls the leader, another leads and nothing is done twice.

Through every fault somebody keeps adding clients and somebody keeps reading, at each replica in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from control_plane.api.forward import FORWARDED, REPLICA
from tests.support.replicas import TAKEOVER_S, Crew
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C12"), pytest.mark.timeout(180)]
PAUSE_S = 0.05


@dataclass
class Traffic:
    """Operators at work, and what became of all they asked.

    Args:
        crew: Whom they ask.
        answers: Status by the client they wanted added, 0 for none.
        certainly_not: Clients of whom they were told that nothing was changed.
        unread: Reads that failed, by replica.
    """

    crew: Crew
    answers: dict[str, int] = field(default_factory=dict)
    certainly_not: set[str] = field(default_factory=set)
    unread: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)

    async def write(self, writer: str) -> None:
        """Add one client after another."""
        while True:
            client = f"{writer}-{len(self.answers)}"
            self.answers[client] = 0
            with contextlib.suppress(httpx.TransportError):
                answer = await self.crew.ask("POST", "/v1/clients", {"id": client, "reason": "test"})
                self.answers[client] = answer.status_code
                if not answer.is_success and "nothing was changed" in answer.json()["detail"]:
                    self.certainly_not.add(client)
            await asyncio.sleep(PAUSE_S)

    async def look(self, name: str) -> None:
        """Read at one replica, again and again."""
        while True:
            try:
                good = (await self.crew.ask("GET", "/v1/clients", of=name)).is_success
            except httpx.TransportError:
                good = False
            (self.read if good else self.unread)[name] += 1
            await asyncio.sleep(PAUSE_S)

    async def more(self, count: int = 3) -> None:
        """Wait until so many further changes have been carried out."""
        before = self.done()

        async def grown() -> bool:
            return self.done() >= before + count

        await eventually(grown, f"{count} further changes", 40)

    def done(self) -> int:
        """Changes that were answered well."""
        return sum(200 <= status < 300 for status in self.answers.values())

    async def nothing_was_done_twice(self) -> None:
        """Compare what operators were told with what the history holds."""
        records = await self.crew.records()
        assert [record.number for record in records] == list(range(len(records))), "numbers with doubles or gaps"
        added = Counter(
            change.key.rpartition("/")[2]
            for record in records
            for change in record.changes
            if record.verb == "client.add"
        )
        assert [client for client, count in added.items() if count > 1] == []
        promised = {client for client, status in self.answers.items() if 200 <= status < 300}
        assert promised <= added.keys(), f"lost: {promised - added.keys()}"
        assert not self.certainly_not & added.keys()
        listed = (await self.crew.ask("GET", "/v1/clients")).json()["clients"]
        assert {client["id"] for client in listed} == set(added)


@contextlib.asynccontextmanager
async def at_work(crew: Crew) -> AsyncIterator[Traffic]:
    """Have operators ask while the block lasts; then everything must add up."""
    traffic = Traffic(crew)
    work = [asyncio.create_task(traffic.write(f"w{number}")) for number in range(2)]
    work += [asyncio.create_task(traffic.look(name)) for name in crew.members]
    try:
        await traffic.more()
        yield traffic
        await traffic.more()
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
    await crew.until_all_stand()
    await traffic.nothing_was_done_twice()


def others(crew: Crew, name: str) -> list[str]:
    return [other for other in crew.members if other != name]


async def test_every_replica_reads_and_takes_changes_and_names_all(three_replicas: Crew) -> None:
    leader = await three_replicas.until_led()
    for name in three_replicas.members:
        answer = await three_replicas.ask("POST", "/v1/clients", {"id": f"at-{name}", "reason": "x"}, of=name)
        assert (answer.status_code, answer.headers[REPLICA]) == (200, leader)
        listed = await three_replicas.ask("GET", "/v1/clients", of=name)
        assert listed.headers[REPLICA] == name
        assert f"at-{name}" in {client["id"] for client in listed.json()["clients"]}
        shown = await three_replicas.status(name)
        assert shown
        assert shown["leader"] == leader
        assert [one["id"] for one in shown["replicas"]] == sorted(three_replicas.members)  # type: ignore[attr-defined]


async def test_a_leader_stopped_in_order_is_followed_within_moments(three_replicas: Crew) -> None:
    old = await three_replicas.until_led()
    async with at_work(three_replicas) as traffic:
        stopping = asyncio.create_task(three_replicas.stop(old))
        began_s = time.monotonic()
        await three_replicas.until_led(but=old)
        took_s = time.monotonic() - began_s
        await stopping
        assert took_s < 5
        assert not [name for name in others(three_replicas, old) if traffic.unread[name]]


async def test_a_leader_that_is_killed_is_followed_and_comes_back_as_standby(three_replicas: Crew) -> None:
    old = await three_replicas.until_led()
    async with at_work(three_replicas) as traffic:
        await three_replicas.kill(old)
        await three_replicas.until_led(but=old)
        assert not [name for name in others(three_replicas, old) if traffic.unread[name]]
        three_replicas.start(old)
    await three_replicas.until_all_stand()
    assert await three_replicas.leader() != old


async def test_a_leader_that_wakes_late_does_no_harm(three_replicas: Crew) -> None:
    old = await three_replicas.until_led()
    async with at_work(three_replicas) as traffic:
        three_replicas.freeze(old)
        # lies in its socket until it wakes; marked as sent on, so that it must decide by itself
        late = asyncio.create_task(
            three_replicas.http.post(
                f"{three_replicas.members[old].url}/v1/clients",
                json={"id": "late", "reason": "x"},
                headers={FORWARDED: "test"},
            )
        )
        await three_replicas.until_led(but=old)
        assert not [name for name in others(three_replicas, old) if traffic.unread[name]]
        three_replicas.thaw(old)
        answer = await late
        assert (answer.status_code, answer.json()["title"]) == (503, "Not the leader")
    assert await three_replicas.leader() != old


async def test_a_write_that_arrives_after_its_leader_was_deposed_is_refused_by_the_fence(three_replicas: Crew) -> None:
    old = await three_replicas.until_led()
    line = three_replicas.members[old].cut
    await three_replicas.until_written_down()
    line.cut_at(b"PUT /v1/txn")
    answer = await three_replicas.ask("POST", "/v1/clients", {"id": "late", "reason": "x"}, of=old)
    assert await line.dark()
    assert answer.status_code == 503
    assert "may or may not be written" in answer.json()["detail"]
    await three_replicas.until_led(but=old)
    three_replicas.heal(old)

    async def refused() -> bool:
        return b"409 Conflict" in line.late

    await eventually(refused, "Consul's answer to the late transaction", 20)
    assert b"session" in line.late
    await three_replicas.until_all_stand()
    assert [record.verb for record in await three_replicas.records()] == ["init"]
    async with at_work(three_replicas):
        pass


async def test_a_leader_that_dies_during_a_change_leaves_it_open_and_asking_again_makes_it_once(
    three_replicas: Crew,
) -> None:
    old = await three_replicas.until_led()
    line = three_replicas.members[old].cut
    await three_replicas.until_written_down()
    line.cut_at(b"PUT /v1/txn")
    standby = others(three_replicas, old)[0]
    change = asyncio.create_task(three_replicas.ask("POST", "/v1/clients", {"id": "open", "reason": "x"}, of=standby))
    await eventually(line.dark, "the change on its way to Consul", 20)
    await three_replicas.kill(old)
    answer = await change
    assert (answer.status_code, answer.json()["title"]) == (502, "Outcome unknown")
    assert answer.headers[REPLICA] == standby
    three_replicas.heal(old)  # too late or not: the session of the dead one may still stand
    await three_replicas.until_led(but=old)
    again = await three_replicas.ask("POST", "/v1/clients", {"id": "open", "reason": "x"})
    assert again.status_code == 200
    assert [record.verb for record in await three_replicas.records()] == ["init", "client.add"]


@pytest.mark.long
async def test_a_leader_cut_off_from_consul_is_followed_and_stands_by_once_it_is_back(three_replicas: Crew) -> None:
    old = await three_replicas.until_led()
    async with at_work(three_replicas) as traffic:
        three_replicas.cut(old)
        await three_replicas.until_led(but=old)
        assert not [name for name in others(three_replicas, old) if traffic.unread[name]]
        three_replicas.heal(old)
        await three_replicas.until_all_stand()
    assert "leadership.uncertain" in three_replicas.members[old].log


@pytest.mark.long
async def test_consul_that_is_restarted_is_taken_up_again(three_replicas: Crew) -> None:
    async with at_work(three_replicas):
        await asyncio.to_thread(three_replicas.server.kill)
        await asyncio.to_thread(three_replicas.server.start)
        await three_replicas.until_led()


async def test_when_consul_loses_all_sessions_somebody_leads_again(three_replicas: Crew) -> None:
    async with at_work(three_replicas) as traffic:
        await asyncio.to_thread(lose_sessions, three_replicas.server.url)
        await three_replicas.until_led()
        await three_replicas.until_all_stand()
        assert not traffic.unread


@pytest.mark.long
async def test_consul_that_answers_nothing_for_10_s_is_taken_up_again(three_replicas: Crew) -> None:
    async with at_work(three_replicas):
        three_replicas.server.freeze()
        try:
            await asyncio.sleep(10)  # the fault itself takes time
        finally:
            three_replicas.server.thaw()
        await three_replicas.until_led()


@pytest.mark.long
@pytest.mark.parametrize("three_replicas", [5], indirect=True)
async def test_with_the_default_ttl_a_killed_leader_is_followed_within_20_s(three_replicas: Crew) -> None:
    for _ in range(3):
        old = await three_replicas.until_led()
        async with at_work(three_replicas):
            await three_replicas.kill(old)
            began_s = time.monotonic()
            await three_replicas.until_led(but=old)
            assert time.monotonic() - began_s < TAKEOVER_S
            three_replicas.start(old)


def lose_sessions(url: str) -> None:
    """End every session, as a Consul without memory of them would have."""
    with urllib.request.urlopen(f"{url}/v1/session/list", timeout=5) as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(f"{url}/v1/session/destroy/{session['ID']}", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
