"""History in bounds: snapshots, compaction, content of any revision that is kept, evidence of another hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.book import Book, Edit
from control_plane.errors import NotFound, Refused
from control_plane.history import History, spanning
from control_plane.kept import HISTORY_PREFIX, PARTS_PREFIX, SNAPSHOT_PARTS_PREFIX, SNAPSHOT_PREFIX, history_key
from control_plane.model import ClientPolicy, Revision, Table
from control_plane.ports import Fence, Write
from tests.support.memory import Memory

pytestmark = pytest.mark.feature("C9")
EVERY, KEEP = 10, 30


class Kept:
    """A book whose history has small bounds, and a way to write one more revision."""

    def __init__(self, store: Memory, fence: Fence) -> None:
        self.store = store
        self.fence = fence
        self.book = Book(store)
        self.book.history = History(store, snapshot_every=EVERY, keep=KEEP)

    async def write(self, number: int, *, clients: int = 1) -> Revision:
        """Revision ``number``: client ``c<number modulo 7>`` gets the right ``t<number>``."""
        made = [ClientPolicy(id=f"c{(number + n) % 7 + n}", allow=(f"t{number}",)) for n in range(clients)]
        edit = Edit("client.set", "tester", f"number {number}", {(Table.CLIENTS, one.id): one for one in made})
        revision, _ = await self.book.write(await self.book.whole(), edit, self.fence, at_s=number)
        assert revision.number == number
        return revision

    async def contents(self) -> dict[str, bytes]:
        """The clients of now."""
        return dict((await self.book.whole()).tables[Table.CLIENTS])


@pytest.fixture
async def kept() -> Kept:
    store = Memory()
    session = await store.open_session("leader", 5)
    await store.lock("tekup/leader", b"one", session)
    made = Kept(store, Fence("tekup/leader", session))
    await made.book.begin(1, made.fence, at_s=0)
    return made


async def test_the_content_of_every_revision_that_is_kept_comes_back(kept: Kept) -> None:
    was = {0: await kept.contents()}
    for number in range(1, 96):
        revision = await kept.write(number, clients=3 if number % 9 else 900)
        was[number] = await kept.contents()
    oldest = 60
    for number in range(oldest, 96):
        assert (await kept.book.history.content(revision, number))[Table.CLIENTS] == was[number]
    for number in (0, 1, oldest - 1):
        with pytest.raises(NotFound, match=f"revision {number} was compacted; the oldest that is kept is {oldest}"):
            await kept.book.history.content(revision, number)
    assert min((await kept.store.read(HISTORY_PREFIX)).entries) == history_key(1, oldest).removeprefix(HISTORY_PREFIX)
    for prefix in (SNAPSHOT_PREFIX, SNAPSHOT_PARTS_PREFIX, PARTS_PREFIX):
        numbers = {int(name[7:17]) for name in (await kept.store.read(prefix)).entries}
        assert min(numbers) >= oldest


async def test_what_a_compaction_left_undone_is_done_by_the_next(kept: Kept) -> None:
    for number in range(1, 46):
        await kept.write(number)
    late = {key: entry.value for key, entry in (await kept.store.read(HISTORY_PREFIX)).entries.items()}
    for number in range(46, 51):
        await kept.write(number)
    left = [Write(HISTORY_PREFIX + key, raw) for key, raw in late.items() if 15 <= int(key[7:]) < 20]
    await kept.store.commit(left)
    for number in range(51, 61):
        await kept.write(number)
    assert min(int(key[7:]) for key in (await kept.store.read(HISTORY_PREFIX)).entries) == 30


async def test_a_snapshot_that_was_never_ended_is_done_without(kept: Kept) -> None:
    for number in range(1, 26):
        revision = await kept.write(number)
    before = await kept.book.history.content(revision, 24)
    (last,) = [name for name in (await kept.store.read(SNAPSHOT_PREFIX)).entries if name.endswith("20")]
    await kept.store.commit([Write(SNAPSHOT_PREFIX + last, None)])
    assert await kept.book.history.content(revision, 24) == before


async def test_history_that_another_hand_has_changed_is_not_believed(kept: Kept) -> None:
    for number in range(1, 6):
        revision = await kept.write(number)
    record = await kept.book.history.record(revision, 3)
    forged = record.changes[0].model_copy(update={"after": '{"id":"c3","allow":["evil_*"]}'})
    raw = record.model_copy(update={"changes": (forged,)}).to_bytes()
    await kept.store.commit([Write(history_key(1, 3), raw)])
    with pytest.raises(Refused, match="does not add up to clients of revision 4: another hand has changed it"):
        await kept.book.history.content(revision, 4)
    assert await kept.book.history.last_said(revision) is None
    await kept.store.commit([Write(history_key(1, 3), None)])
    with pytest.raises(Refused, match="the record of revision 3 is missing"):
        await kept.book.history.content(revision, 4)


async def test_numbers_go_on_in_a_new_epoch(kept: Kept) -> None:
    for number in range(1, 13):
        revision = await kept.write(number)
    was = await kept.contents()
    later = revision.model_copy(update={"epoch": 2})
    await kept.store.commit([Write("tekup/policy/revision", later.to_bytes())])
    revision = await kept.write(13)
    assert (revision.epoch, (await kept.book.history.content(revision, 12))[Table.CLIENTS]) == (2, was)
    assert [(one.epoch, one.number) for one in await kept.book.history.page(revision, limit=3)] == [
        (2, 13),
        (1, 12),
        (1, 11),
    ]


@given(st.integers(0, 12_000), st.integers(0, 1200))
def test_the_prefixes_of_a_span_hold_all_of_it_and_little_else(low: int, length: int) -> None:
    high = low + length
    prefixes = list(spanning(1, low, high))
    numbers = [n for n in range(max(0, low - 150), high + 150) if history_key(1, n).startswith(tuple(prefixes))]
    assert set(range(low, high + 1)) <= set(numbers)
    assert len(numbers) <= length + 1 + 2 * 99
    assert len(prefixes) <= 13


def test_an_empty_span_reads_nothing() -> None:
    assert list(spanning(1, 5, 4)) == []
