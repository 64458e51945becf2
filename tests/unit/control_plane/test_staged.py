"""A change larger than one transaction: it counts as a whole, whenever its leader dies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from control_plane.book import Book, Edit, Held
from control_plane.errors import Conflict, Refused, Unavailable
from control_plane.kept import REVISION_KEY
from control_plane.model import ClientPolicy, Revision, Table
from control_plane.page import MOST_CHANGED
from control_plane.ports import Fence, Write
from control_plane.staged import MOST_BYTES, MOST_WRITES, PENDING_PREFIX, batched, cost, give_up
from tests.support.memory import Memory

pytestmark = pytest.mark.feature("C9", "C2")
MANY = 450


class Mortal(Memory):
    """A store that can be told how many commits its writer still lives to see; counts the operations of each."""

    def __init__(self) -> None:
        super().__init__()
        self.commits_left = 1_000_000
        self.sizes: list[int] = []

    async def commit(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        if self.commits_left == 0:
            raise Unavailable("the writer is dead")
        self.commits_left -= 1
        self.sizes.append(len(writes))
        await super().commit(writes, fence)


@pytest.fixture
async def store() -> Mortal:
    return Mortal()


@pytest.fixture
async def fence(store: Mortal) -> Fence:
    session = await store.open_session("leader", 5)
    await store.lock("tekup/leader", b"one", session)
    return Fence("tekup/leader", session)


@pytest.fixture
async def book(store: Mortal, fence: Fence) -> Book:
    book = Book(store)
    await book.begin(1, fence, at_s=0)
    return book


def edit(count: int = MANY, allow: str = "*") -> Edit:
    clients = [ClientPolicy(id=f"c{n}", allow=(allow,)) for n in range(count)]
    return Edit("state.apply", "tester", "many", {(Table.CLIENTS, one.id): one for one in clients})


async def test_a_large_change_is_one_revision_and_leaves_nothing_behind(
    book: Book, store: Mortal, fence: Fence
) -> None:
    revision, changed = await book.write(await book.whole(), edit(), fence, at_s=1)
    page = await book.whole()
    assert (changed, revision.number, page.revision) == (True, 1, revision)
    assert len(page.tables[Table.CLIENTS]) == MANY
    assert max(store.sizes) <= MOST_WRITES
    assert (await store.read(PENDING_PREFIX)).entries == {}
    assert len((await book.history.record(revision, 1)).changes) == MANY


async def test_wherever_its_leader_dies_it_is_there_as_a_whole_or_not_at_all(
    store: Mortal, book: Book, fence: Fence
) -> None:
    """Every number of commits the leader may live to see, from none to all."""
    base = 0
    for lives in range(40):
        store.commits_left = lives
        try:
            await book.write(await book.whole(), edit(allow=f"t{lives}"), fence, at_s=1)
            ended = True
        except Unavailable:
            ended = False
        store.commits_left = 1_000_000
        in_between = Revision.parse((await store.read(REVISION_KEY)).entries[""].value, "revision").number
        finished = await book.finish(fence)
        page = await book.whole()
        assert page.revision.number in (base, base + 1)
        assert finished is None or (in_between, page.revision.number) == (base, base + 1)
        said = {raw for raw in page.tables[Table.CLIENTS].values() if f'"t{lives}"'.encode() in raw}
        assert len(said) == (0 if page.revision.number == base else MANY)
        assert (await store.read(PENDING_PREFIX + "change")).entries == {}
        base = page.revision.number
        if ended:
            break
    assert ended
    assert base > 1  # some were finished by who came after


async def test_a_change_begun_on_a_revision_that_is_gone_is_given_up_by_a_repair(
    store: Mortal, book: Book, fence: Fence
) -> None:
    page = await book.whole()
    await _begin(store, book, fence)
    other = page.revision.model_copy(update={"number": 7})
    await store.commit([Write(REVISION_KEY, other.to_bytes())])
    with pytest.raises(Conflict, match=r"begun on revision 0 and Consul now holds 7.*tekup state repair"):
        await book.finish(fence)
    revision, changed = await book.repair(Edit("state.repair", "t", "r"), fence, at_s=2, gates=Held((0, 0)))
    assert (changed, revision.number) == (True, 8)
    assert (await store.read(PENDING_PREFIX)).entries == {}
    assert (await book.whole()).revision == revision


async def test_a_damaged_change_is_not_carried_out(store: Mortal, book: Book, fence: Fence) -> None:
    await _begin(store, book, fence)
    await store.commit([Write(PENDING_PREFIX + "000000", b'{"writes":[]}')])
    with pytest.raises(Conflict, match=r"damaged; give it up .*tekup state repair"):
        await book.finish(fence)


async def _begin(store: Mortal, book: Book, fence: Fence) -> None:
    """Let a leader die as soon as its change is declared and one batch of it is written."""
    for lives in range(40):
        store.commits_left = lives
        with pytest.raises(Unavailable):
            await book.write(await book.whole(), edit(), fence, at_s=1)
        store.commits_left = 1_000_000
        if (await store.read(PENDING_PREFIX + "change")).entries and (await store.read(Table.CLIENTS.prefix)).entries:
            return
        await give_up(store, fence)


async def test_more_than_can_be_written_is_refused_beforehand(store: Mortal, book: Book, fence: Fence) -> None:
    with pytest.raises(Refused, match=rf"would change {MOST_CHANGED + 1} documents; at most {MOST_CHANGED} go"):
        await book.write(await book.whole(), edit(MOST_CHANGED + 1), fence, at_s=1)
    big = ClientPolicy(id="big", roots=tuple("x" * 1000 for _ in range(70)))
    with pytest.raises(Refused, match=r"clients/big would take \d+ bytes, more than 64000"):
        await book.write(await book.whole(), Edit("x", "a", "r", {(Table.CLIENTS, "big"): big}), fence, at_s=1)
    assert (await store.read(Table.CLIENTS.prefix)).entries == {}


def test_no_lot_is_larger_than_a_transaction_may_be() -> None:
    writes = [Write(f"key/{n}", b'"' * (n * 37 % 60_000)) for n in range(500)]
    lots = batched(writes)
    assert [write for lot in lots for write in lot] == writes
    assert all(len(lot) <= MOST_WRITES and sum(map(cost, lot)) <= MOST_BYTES for lot in lots)
