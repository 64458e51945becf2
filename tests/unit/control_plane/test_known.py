"""What the leader keeps of the tables between verbs, and what makes it read them again."""

from __future__ import annotations

import pytest

from control_plane.book import Book, Edit
from control_plane.errors import Conflict
from control_plane.kept import REVISION_KEY
from control_plane.known import WHOLE_EVERY_S, KnownTables
from control_plane.model import ClientPolicy, Lane, ServicePolicy, Table
from control_plane.ports import Entry, Fence, Listing, Write
from tests.support.memory import Memory

pytestmark = pytest.mark.feature("C2", "A5")


class Counting(Memory):
    """A store that counts what is read whole."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[str] = []
        self.fence = Fence("lead", "")

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        if prefix.endswith("/"):
            self.whole.append(prefix)
        return await super().read(prefix, after=after, wait_s=wait_s)

    async def index(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> int:
        return self._index_of(prefix)


@pytest.fixture
async def store() -> Counting:
    made = Counting()
    session = await made.open_session("lead", 5)
    await made.lock("lead", b"", session)
    made.fence = Fence("lead", session)
    await Book(made).begin(1, made.fence, at_s=0)
    return made


def service(stable: str = "1") -> ServicePolicy:
    return ServicePolicy(name="alpha", stable=stable, lanes=(Lane(version=stable, weight_pct=100),))


async def write(book: Book, store: Counting, *documents: ServicePolicy | ClientPolicy) -> None:
    page = await book.whole()
    places = {(Table.SERVICES if isinstance(one, ServicePolicy) else Table.CLIENTS, one.key): one for one in documents}
    await book.write(page, Edit("test", "test", "test", places), store.fence, at_s=0)


def of_gates(prefixes: list[str]) -> set[str]:
    return {prefix for prefix in prefixes if prefix in (Table.SERVICES.prefix, Table.CLIENTS.prefix)}


async def test_a_verb_after_one_of_ours_reads_no_table_whole(store: Counting) -> None:
    book = Book(store)
    await write(book, store, service(), ClientPolicy(id="dev"))
    await write(book, store, ClientPolicy(id="dev", cohort="a"))
    store.whole.clear()
    await write(book, store, ClientPolicy(id="dev", cohort="b"))
    page = await book.whole()
    assert not of_gates(store.whole)
    assert b'"cohort":"b"' in page.tables[Table.CLIENTS]["dev"]
    assert page.tables == (await book.page()).tables


async def test_what_another_hand_changes_is_seen_by_the_next_verb(store: Counting) -> None:
    book = Book(store)
    await write(book, store, service(), ClientPolicy(id="dev"))
    await book.whole()
    store.put(Table.CLIENTS.prefix + "dev", ClientPolicy(id="dev", allow=("a_*",)).to_bytes())
    with pytest.raises(Conflict, match="another hand"):
        await write(book, store, service("2"))


async def test_what_another_hand_changes_in_the_moment_of_a_write_is_not_overwritten(store: Counting) -> None:
    book = Book(store)
    await write(book, store, service(), ClientPolicy(id="dev"))
    page = await book.whole()
    store.put(Table.CLIENTS.prefix + "dev", ClientPolicy(id="dev", allow=("a_*",)).to_bytes())
    edit = Edit("test", "test", "test", {(Table.CLIENTS, "dev"): ClientPolicy(id="dev", cohort="b")})
    with pytest.raises(Conflict, match="changed by somebody else"):
        await book.write(page, edit, store.fence, at_s=0)
    with pytest.raises(Conflict, match="another hand"):
        await book.whole()


async def test_another_leaders_revision_is_read_and_not_taken_for_ours(store: Counting) -> None:
    ours, theirs = Book(store), Book(store)
    await write(ours, store, service(), ClientPolicy(id="dev"))
    await ours.whole()
    await write(theirs, store, ClientPolicy(id="dev", cohort="c"))
    assert b'"cohort":"c"' in (await ours.whole()).tables[Table.CLIENTS]["dev"]


async def test_after_a_while_a_table_is_read_whole_though_it_has_not_moved(store: Counting) -> None:
    now = [1000.0]
    known = KnownTables(store, lambda: now[0])
    await store.commit([Write(Table.CLIENTS.prefix + "dev", b"{}")])
    revision = Entry((await store.read(REVISION_KEY)).entries[""].value, 1)
    await known.read(revision, afresh=False)
    store.whole.clear()
    now[0] += WHOLE_EVERY_S - 1
    await known.read(revision, afresh=False)
    assert Table.CLIENTS.prefix not in store.whole
    now[0] += 2
    await known.read(revision, afresh=False)
    assert Table.CLIENTS.prefix in store.whole
