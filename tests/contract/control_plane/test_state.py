"""The state as a whole on a real Consul: large changes, leaders that die in between, ten thousand revisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from control_plane.book import Book, Edit
from control_plane.consul import Consul
from control_plane.errors import NotFound, Unavailable
from control_plane.gates import GATES_PREFIX
from control_plane.kept import REVISION_KEY
from control_plane.leadership import LEADER_KEY, Leadership
from control_plane.loop import ControlPlane, Wish
from control_plane.model import ClientPolicy, GateReport, Revision, Table
from control_plane.ports import Fence, Write
from control_plane.resources import Resource
from control_plane.staged import PENDING_PREFIX
from control_plane.state import present
from tests.support.consul_process import ConsulProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C9")]
WHY = Wish("tester", "to see")
VERSIONS = 11_100
BOUND_S = 2.0


class Dying(Consul):
    """A Consul whose writer dies after some commits."""

    commits_left = 1_000_000

    async def commit(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        if self.commits_left == 0:
            raise Unavailable("the writer is dead")
        self.commits_left -= 1
        await super().commit(writes, fence)


@pytest.fixture
async def consul(own_consul: ConsulProcess) -> AsyncIterator[Dying]:
    async with Dying(own_consul.url) as consul:
        yield consul


async def gate(consul: Consul) -> None:
    """Report each revision as soon as every table fits it, as an agent does."""
    session = await consul.open_session("gate-1", 5)
    reported, after = (-1, -1), 0
    while True:
        raw = (listing := await consul.read(REVISION_KEY, after=after, wait_s=1)).entries.get("")
        place = Revision.parse(raw.value, "revision").place if raw else (0, 0)
        if place != reported:
            document = GateReport(id="gate-1", epoch=place[0], number=place[1], at=0).to_bytes()
            await consul.lock(GATES_PREFIX + "gate-1", document, session)
            reported = place
        after = listing.index
        await consul.renew_session(session)


@pytest.fixture
async def plane(consul: Dying) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(consul, consul, Leadership(consul, "one", ttl_s=5))
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(gate(consul)), tasks.create_task(plane.run())]
        await asyncio.wait_for(plane.leadership.held(), 20)
        await eventually(lambda: reports(plane), "the gate's report", 20)
        await plane.init(WHY)
        yield plane
        for task in work:
            task.cancel()


async def reports(plane: ControlPlane) -> bool:
    return bool(plane.gates.all)


def clients(count: int, allow: str = "*") -> list[Resource]:
    made = [ClientPolicy(id=f"c{n}", allow=(allow, "search_*")) for n in range(count)]
    return [Resource("Client", one, "here") for one in made]


@pytest.mark.parametrize("count", [1000, 3000])
async def test_a_set_of_thousands_comes_into_force_as_one_revision(
    plane: ControlPlane, consul: Dying, count: int
) -> None:
    outcome, _ = await plane.state.apply(clients(count), WHY)
    assert (outcome.revision.number, outcome.changed, outcome.waiting_for) == (1, True, ())
    assert outcome.revision.tables[Table.CLIENTS].count == count
    assert not (await plane.state.apply(clients(count), WHY))[0].changed
    assert len((await plane.state.record(1)).changes) == count
    assert (await consul.read(PENDING_PREFIX)).entries == {}
    back, _ = await plane.state.apply(clients(count, "x_*"), WHY)
    assert (await plane.state.rollback(1, WHY))[0].revision.number == back.revision.number + 1
    assert (await plane.state.drift(plane.gates.all)).tables == ()


async def test_what_a_leader_has_begun_the_next_one_ends(plane: ControlPlane, consul: Dying) -> None:
    """Dies at each of the commits of one change in turn; no gate ever sees half of it."""
    for lives in range(40):
        before = (await plane.page()).revision.number
        consul.commits_left = lives
        try:
            await plane.state.apply(clients(600, f"t{lives}_*"), WHY)
        except Unavailable:
            consul.commits_left = 1_000_000
        else:
            break

        async def ended() -> bool:
            return "change" not in (await consul.read(PENDING_PREFIX)).entries

        await eventually(ended, "the change to be ended by who leads now", 20)
        page = await plane.page()
        assert page.changed_by_another_hand() == ()
        said = {one.allow[0] for one in (await plane.policy()).clients.values()}
        assert said == ({f"t{lives}_*"} if page.revision.number == before + 1 else said - {f"t{lives}_*"})
        assert len(said) <= 1
    assert lives > 5


async def test_a_deposed_leader_cannot_go_on_with_a_large_change(plane: ControlPlane, consul: Dying) -> None:
    await plane.state.apply(clients(600), WHY)
    book, page = Book(consul), await plane.page()
    stale = Fence(LEADER_KEY, "00000000-0000-0000-0000-000000000000")
    documents = {(Table.CLIENTS, f"c{n}"): ClientPolicy(id=f"c{n}", allow=("evil_*",)) for n in range(600)}
    with pytest.raises(Unavailable):
        await book.write(page, Edit("state.apply", "late", "late", documents), stale, at_s=1)
    assert await plane.page() == page


async def p95_s(times: int, ask: Callable[[int], Awaitable[object]]) -> float:
    taken = []
    for n in range(times):
        began_s = time.monotonic()
        await ask(n)
        taken.append(time.monotonic() - began_s)
    return sorted(taken)[int(len(taken) * 0.95)]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_ten_thousand_revisions_stay_fast(
    plane: ControlPlane, consul: Dying, record_property: Callable[[str, object], None]
) -> None:
    """Every p95 is below two seconds; what is kept comes back right, what is not is said."""
    was = await ten_thousand(plane, consul)
    last = (await plane.page()).revision.number
    oldest = 1000
    figures = {
        "list 20": await p95_s(40, lambda n: plane.state.history(below=last - n * 200)),
        "list 1000": await p95_s(20, lambda n: plane.state.history(below=last - n * 400, limit=1000)),
        "one record": await p95_s(40, lambda n: plane.state.record(last - n * 200)),
        "export now": await p95_s(20, lambda _: plane.state.export()),
        "export then": await p95_s(40, lambda n: plane.state.export(oldest + n * 251)),
        "rollback": await p95_s(20, lambda n: plane.state.rollback(oldest + (n * 7919) % 10_000, WHY)),
        "drift": await p95_s(10, lambda _: plane.state.drift(plane.gates.all)),
    }
    await consul.commit([Write("tekup/policy/clients/c1", b'{"id":"c1","allow":["evil_*"]}')])
    figures["drift, by hand"] = await p95_s(10, lambda _: plane.state.drift(plane.gates.all))
    figures["restore"] = await p95_s(1, lambda _: plane.restore(WHY))
    await consul.commit([Write("tekup/policy/clients/c1", b'{"id":"c1","allow":["evil_*"]}')])
    figures["repair"] = await p95_s(1, lambda _: plane.repair(WHY))
    for name, taken_s in figures.items():
        record_property(name, f"{taken_s * 1000:.0f} ms")
    assert max(figures.values()) < BOUND_S, figures
    for number in (oldest, 1999, 2000, 7777, VERSIONS):
        _, documents = await plane.state.export(number)
        assert {key: one for (table, key), one in documents.items() if table is Table.CLIENTS} == was[number]
    with pytest.raises(NotFound, match=f"revision 999 was compacted; the oldest that is kept is {oldest}"):
        await plane.state.rollback(999, WHY)
    print({name: f"p95 {taken_s * 1000:.0f} ms" for name, taken_s in figures.items()})


async def ten_thousand(plane: ControlPlane, consul: Consul) -> dict[int, dict[str, object]]:
    """Write revisions of 200 clients one by one; gives what some of them held."""
    await plane.state.apply(clients(200), WHY)
    book, was = Book(consul), {}
    for number in range(2, VERSIONS + 1):
        one = ClientPolicy(id=f"c{number % 200}", allow=(f"t{number}_*", "search_*"))
        page = await book.page()
        edit = Edit("client.set", "tester", f"number {number}", {(Table.CLIENTS, one.id): one})
        revision, _ = await book.write(page, edit, plane.leadership.fence(), at_s=number)
        if number in (1000, 1999, 2000, 7777, VERSIONS):
            there = present(await book.page())
            was[number] = {key: document for (table, key), document in there.items() if table is Table.CLIENTS}
    plane.gates.written(revision)
    return {number: dict(documents) for number, documents in was.items()}
