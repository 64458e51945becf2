"""What the agent reads of the policy when it changes: what the revision names, and whole tables only in doubt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from control_plane.agent.watch import PolicyWatch
from control_plane.kept import REVISION_KEY
from control_plane.model import GATE_TABLES, MOST_NAMED, ClientPolicy, Revision, Table
from control_plane.ports import Listing, Write
from control_plane.signed import TableDigests, table_sum
from tests.support.memory import Memory
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C2", "A5")


class Counting(Memory):
    """A store that counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        self.reads.append(prefix)
        return await super().read(prefix, after=after, wait_s=wait_s)

    async def index(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> int:
        return (await super().read(prefix, after=after, wait_s=wait_s)).index


class Policy:
    """A policy in a store, and who follows it."""

    def __init__(self) -> None:
        self.store = Counting()
        self.held: dict[Table, dict[str, bytes]] = {table: {} for table in Table}
        self.revision = Revision(epoch=1, number=0, tables=dict.fromkeys(Table, table_sum({})))
        self.watch = PolicyWatch(self.store, lambda: None, TableDigests().sum)

    async def client(self, name: str, cohort: str | None, *, named: bool = True) -> None:
        """Write a client, None for gone, with its revision, which names it unless told otherwise."""
        raw = None if cohort is None else ClientPolicy(id=name, cohort=cohort).to_bytes()
        if raw is None:
            del self.held[Table.CLIENTS][name]
        else:
            self.held[Table.CLIENTS][name] = raw
        sums = {table: table_sum(documents) for table, documents in self.held.items()}
        names = [Table.CLIENTS.prefix + name] if named else ["n"] * (MOST_NAMED + 1)
        self.revision = self.revision.following(names, sums)
        writes = [Write(Table.CLIENTS.prefix + name, raw), Write(REVISION_KEY, self.revision.to_bytes())]
        await self.store.commit(writes)

    async def followed(self) -> None:
        """Wait until the watch shows what was written."""

        async def there() -> bool:
            same = all(self.watch.tables.get(table) == self.held[table] for table in GATE_TABLES)
            return same and self.watch.revision == self.revision.to_bytes() and self.watch.complete

        await eventually(there, "the watch to show the policy", 20)

    def whole(self) -> list[str]:
        """How often clients were read whole since this was last asked; an empty table moves with everything."""
        found = [prefix for prefix in self.store.reads if prefix == Table.CLIENTS.prefix]
        self.store.reads.clear()
        return found


@pytest.fixture
async def policy() -> AsyncIterator[Policy]:
    made = Policy()
    await made.client("dev", "a")
    await made.client("ci", "a")
    task = asyncio.create_task(made.watch.run())
    await made.followed()
    made.whole()
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_of_a_change_only_what_it_names_is_read(policy: Policy) -> None:
    await policy.client("dev", "b")
    await policy.followed()
    await policy.client("ci", None)
    await policy.followed()
    assert policy.whole() == []


async def test_several_changes_that_come_at_once_are_all_read(policy: Policy) -> None:
    for number in range(5):
        await policy.client(f"c{number}", "a")
    await policy.followed()
    assert policy.whole() == []


async def test_a_change_that_names_nothing_is_read_whole(policy: Policy) -> None:
    await policy.client("dev", "b", named=False)
    await policy.followed()
    assert policy.whole() == [Table.CLIENTS.prefix]


async def test_what_another_hand_writes_without_a_revision_is_seen(policy: Policy) -> None:
    raw = ClientPolicy(id="dev", cohort="x").to_bytes()
    await policy.store.commit([Write(Table.CLIENTS.prefix + "dev", raw)])
    policy.held[Table.CLIENTS]["dev"] = raw
    await policy.followed()
    assert policy.whole() == [Table.CLIENTS.prefix]


async def test_what_another_hand_has_changed_beside_a_revision_is_seen(policy: Policy) -> None:
    raw = ClientPolicy(id="ci", cohort="x").to_bytes()
    policy.store.put(Table.CLIENTS.prefix + "ci", raw)
    policy.held[Table.CLIENTS]["ci"] = raw
    await policy.client("dev", "b")
    await policy.followed()
    assert Table.CLIENTS.prefix in policy.whole()


def test_a_revision_names_what_has_changed_since_an_earlier_one_as_far_as_that_is_little() -> None:
    first = Revision(epoch=1, number=7, tables={})
    third = first.following(["a"]).following(["b", "c"])
    assert third.changed_since((1, 7)) == {"a", "b", "c"}
    assert third.changed_since((1, 8)) == {"b", "c"}
    assert not any(third.changed_since(place) for place in ((1, 9), (1, 6), (0, 8)))
    many = third.following(str(n) for n in range(MOST_NAMED))
    assert len(many.changed_since((1, 9))) == MOST_NAMED
    assert not many.changed_since((1, 8))
    assert many.following(["d"]).changed == (("d",),)
    assert many.following(str(n) for n in range(MOST_NAMED + 1)).changed == ()
