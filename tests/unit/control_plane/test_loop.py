"""The control plane over a store in memory: verbs, records, fencing, services first seen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from control_plane.errors import Conflict, Fenced, NotFound, NotInitialised, NotLeader, Refused, Unavailable
from control_plane.gates import GATES_PREFIX
from control_plane.kept import HISTORY_PREFIX, REVISION_KEY
from control_plane.leadership import LEADER_KEY
from control_plane.loop import ControlPlane, Wish
from control_plane.model import ClientPolicy, HistoryRecord, Instance, ServicePolicy, Table
from control_plane.ports import Write
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running
from tests.support.wait import eventually

WHY = Wish("tester", "to see")
OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
NOTES = Instance("notes", "1.0.0", "cccccc", "127.0.0.1", 4003)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def gate(store: Memory) -> ObedientGate:
    return ObedientGate(store, "gate-1")


@pytest.fixture
async def plane(store: Memory, gate: ObedientGate) -> AsyncIterator[ControlPlane]:
    async with running(control_plane(store), gate) as plane:
        await plane.init(WHY)
        yield plane


async def seen(plane: ControlPlane, *versions: str) -> ServicePolicy:
    async def look() -> ServicePolicy | None:
        registered = {one.version for one in plane.instances()}
        return (await plane.policy()).services.get("search") if set(versions) <= registered else None

    return await eventually(look, f"search with {versions}")


async def records(store: Memory) -> list[HistoryRecord]:
    listing = await store.read(HISTORY_PREFIX)
    return [HistoryRecord.parse(entry.value, key) for key, entry in sorted(listing.entries.items())]


@pytest.mark.feature("C1")
async def test_a_service_first_seen_gets_its_first_version_at_100(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD)
    decided = await seen(plane, "1.0.0")
    assert [(lane.version, lane.weight_pct) for lane in decided.lanes] == [("1.0.0", 100)]


@pytest.mark.feature("C1")
async def test_a_further_version_gets_no_traffic_by_itself(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD)
    await seen(plane, "1.0.0")
    await store.register(OLD, NEW)
    assert [lane.version for lane in (await seen(plane, "1.0.0", "1.1.0")).lanes] == ["1.0.0"]


@pytest.mark.feature("C2", "C3")
async def test_a_shift_is_written_recorded_and_in_force(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD, NEW)
    await seen(plane, "1.0.0", "1.1.0")
    outcome = await plane.set_traffic("search", {"1.1.0": 10}, Wish("eva", "try it"))
    assert (outcome.changed, outcome.waiting_for) == (True, ())
    record = (await records(store))[-1]
    assert (record.author, record.reason, record.verb) == ("eva", "try it", "traffic.set")
    assert record.number == outcome.revision.number
    assert record.changes[0].before is not None
    assert '"weight_pct":10' in str(record.changes[0].after)


@pytest.mark.feature("C1")
async def test_a_service_is_forgotten_once_its_instances_are_gone_and_is_first_seen_again(
    plane: ControlPlane, store: Memory
) -> None:
    await store.register(OLD, NOTES)
    await seen(plane, "1.0.0")
    with pytest.raises(Refused, match=rf"service search has instances \({OLD.id}\); stop them first"):
        await plane.forget_service("search", WHY)
    await store.register(NOTES)

    async def gone() -> bool:
        return OLD not in plane.instances()

    await eventually(gone, "the instances to be gone")
    outcome = await plane.forget_service("search", WHY)
    assert outcome.changed
    assert "search" not in (await plane.policy()).services
    with pytest.raises(NotFound, match="service search does not exist"):
        await plane.forget_service("search", WHY)
    await store.register(NOTES, NEW)
    assert (await seen(plane, "1.1.0")).stable == "1.1.0"


async def test_the_same_wish_twice_makes_one_revision(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD, NEW)
    await seen(plane, "1.0.0", "1.1.0")
    first = await plane.set_traffic("search", {"1.1.0": 10}, WHY)
    second = await plane.set_traffic("search", {"1.1.0": 10}, WHY)
    assert (second.changed, second.revision.number) == (False, first.revision.number)


async def test_changes_are_counted_by_what_came_of_them(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD, NEW)
    await seen(plane, "1.0.0", "1.1.0")
    for _ in range(2):
        await plane.set_traffic("search", {"1.1.0": 10}, WHY)
    with pytest.raises(NotFound):
        await plane.set_traffic("nowhere", {"1": 100}, WHY)
    text = plane.metrics.shown("")[0].decode()
    for result in ("in_force", "unchanged", "notfound"):
        assert f'tekup_changes_total{{result="{result}",verb="traffic.set"}} 1.0' in text
    assert 'tekup_change_seconds_count{verb="traffic.set"} 2.0' in text


async def test_the_leader_counts_what_was_lost_and_shows_every_version_from_the_start(
    plane: ControlPlane, store: Memory
) -> None:
    await store.register(OLD, NOTES)
    await seen(plane, "1.0.0")

    async def shows(count: float) -> bool:
        series = f'tekup_instances_lost_total{{service="search",version="1.0.0"}} {count}'
        return series in plane.metrics.shown("")[0].decode()

    await eventually(lambda: shows(0.0), "the series of a version that has lost nothing")
    await store.register(replace(OLD, passing=False, dead=True), NOTES)
    await eventually(lambda: shows(1.0), "the loss")


async def test_the_leader_shows_how_many_live_of_each_version_that_has_a_share(
    plane: ControlPlane, store: Memory
) -> None:
    await store.register(OLD)
    await store.register(OLD, NEW)
    await seen(plane, "1.0.0", "1.1.0")

    async def shows(version: str, count: float) -> bool:
        series = f'tekup_lane_instances{{service="search",target="search_{version}"}} {count}'
        return series in plane.metrics.shown("")[0].decode()

    await eventually(lambda: shows("1-0-0", 1.0), "the version that has all")
    assert "search_1-1-0" not in plane.metrics.shown("")[0].decode()
    await plane.set_traffic("search", {"1.0.0": 50, "1.1.0": 50}, WHY)
    await store.register(OLD, replace(NEW, passing=False))
    await eventually(lambda: shows("1-1-0", 0.0), "the version that nobody answers for")


async def test_a_change_without_a_reason_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(Refused, match="a reason is needed"):
        await plane.rights.add_client(ClientPolicy(id="ci"), Wish("eva", " "))


async def test_a_wish_against_an_older_revision_is_a_conflict(plane: ControlPlane) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    with pytest.raises(Conflict, match="you read revision 0, it is 1 now"):
        await plane.rights.add_client(ClientPolicy(id="two"), Wish("eva", "late", expected_number=0))


async def test_unknown_names_are_named(plane: ControlPlane) -> None:
    with pytest.raises(NotFound, match="service nowhere does not exist"):
        await plane.set_traffic("nowhere", {"1": 100}, WHY)
    with pytest.raises(NotFound, match="client nobody does not exist"):
        await plane.rights.create_key("nobody", WHY)
    with pytest.raises(NotFound, match="key k9 does not exist"):
        await plane.rights.revoke_key("k9", WHY)


@pytest.mark.feature("A5")
async def test_a_key_is_stored_as_hash_only_and_its_record_holds_nothing_of_it(
    plane: ControlPlane, store: Memory
) -> None:
    await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    key, _ = await plane.rights.create_key("ci", WHY)
    everything = b"".join(entry.value for entry in (await store.read("")).entries.values())
    assert key.text.encode() not in everything
    assert key.text.split("_")[2].encode() not in everything
    assert key.document.hash not in (await records(store))[-1].model_dump_json()


@pytest.mark.feature("A5")
async def test_removing_a_client_revokes_its_keys(plane: ControlPlane) -> None:
    await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    key, _ = await plane.rights.create_key("ci", WHY)
    await plane.rights.remove_client("ci", WHY)
    policy = await plane.policy()
    assert "ci" not in policy.clients
    assert policy.keys[key.document.id].revoked == 1000


async def test_a_key_that_has_expired_already_is_refused(plane: ControlPlane) -> None:
    await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    with pytest.raises(Refused, match="lies in the past"):
        await plane.rights.create_key("ci", WHY, expires_s=999)


@pytest.mark.feature("A5")
async def test_a_gate_that_is_gone_still_counts_for_keys_until_it_is_forgotten(
    plane: ControlPlane, store: Memory, gate: ObedientGate
) -> None:
    gone = await store.open_session("gone", 5)
    await store.lock(GATES_PREFIX + "gate-2", b'{"id":"gate-2","epoch":1,"number":0,"at":0}', gone)
    await store.close_session(gone)

    async def both() -> bool:
        return len(plane.gates.all) == 2

    await eventually(both, "two gates")
    revision = (await plane.rights.add_client(ClientPolicy(id="ci"), WHY)).revision
    assert plane.gates.lagging(revision.place, also_gone=True) == ("gate-2",)
    assert plane.gates.lagging(revision.place, also_gone=False) == ()
    await plane.forget_gate("gate-2", WHY)

    async def forgotten() -> bool:
        return not plane.gates.lagging(revision.place, also_gone=True)

    await eventually(forgotten, "gate-2 forgotten")
    with pytest.raises(Refused, match="gate gate-1 is alive"):
        await plane.forget_gate("gate-1", WHY)


async def test_a_deposed_leader_writes_nothing(plane: ControlPlane, store: Memory) -> None:
    session = (await store.read(LEADER_KEY)).entries[""].session
    before = (await store.read(REVISION_KEY)).entries[""].value
    await store.close_session(session)
    with pytest.raises((NotLeader, Fenced), match=r"session that holds tekup/leader is gone|not the leader"):
        await plane.rights.add_client(ClientPolicy(id="late"), WHY)
    assert (await store.read(REVISION_KEY)).entries[""].value == before


async def test_a_change_by_another_hand_is_refused_until_it_is_accepted(plane: ControlPlane, store: Memory) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    await store.commit([Write(Table.CLIENTS.prefix + "one", None)])
    with pytest.raises(Conflict, match=r"tekup/policy/clients/ does not fit revision 1.*tekup state repair"):
        await plane.rights.add_client(ClientPolicy(id="two"), WHY)
    repaired = await plane.repair(WHY)
    assert (repaired.revision.number, repaired.changed, repaired.waiting_for) == (2, True, ())
    again = await plane.repair(WHY)
    assert (again.revision, again.changed) == (repaired.revision, False)
    (record,) = [record for record in await records(store) if record.verb == "state.repair"]
    assert [(change.key, change.before is None, change.after) for change in record.changes] == [
        ("tekup/policy/clients/one", False, None)
    ]
    assert (await plane.rights.add_client(ClientPolicy(id="two"), WHY)).changed
    assert set((await plane.policy()).clients) == {"two"}


async def test_an_unreadable_revision_is_said_and_stops_nothing_else(plane: ControlPlane, store: Memory) -> None:
    good = (await store.read(REVISION_KEY)).entries[""].value
    await store.commit([Write(REVISION_KEY, b"{}")])
    await store.register(OLD)
    with pytest.raises(Refused, match="tekup/policy/revision"):
        await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    await store.commit([Write(REVISION_KEY, good)])
    await seen(plane, "1.0.0")


@pytest.mark.feature("A5")
async def test_more_rights_than_a_grant_can_carry_are_refused_before_anything_is_written(plane: ControlPlane) -> None:
    with pytest.raises(Refused, match="use fewer or broader globs"):
        await plane.rights.add_client(ClientPolicy(id="big", allow=tuple(f"{'x' * 64}{n}" for n in range(60))), WHY)
    assert not (await plane.policy()).clients


async def test_nothing_can_be_changed_before_there_is_a_state(store: Memory) -> None:
    async with running(control_plane(store)) as plane:
        with pytest.raises(NotInitialised, match="tekup state init"):
            await plane.rights.add_client(ClientPolicy(id="ci"), WHY)


async def test_a_lost_store_is_not_taken_for_a_new_one(plane: ControlPlane, store: Memory, gate: ObedientGate) -> None:
    await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    await store.lose_everything()
    gate.session = await store.open_session("gate-1", 5)
    await store.lock(GATES_PREFIX + "gate-1", b'{"id":"gate-1","epoch":1,"number":1,"at":0}', gate.session)

    async def reported() -> bool:
        return plane.gates.all["gate-1"].report.number == 1 and plane.gates.all["gate-1"].live

    await eventually(reported, "the gate's report")
    with pytest.raises(Conflict, match="its data is lost"):
        await plane.init(WHY)

    async def begun_anew() -> bool:
        with contextlib.suppress(NotLeader, Fenced):
            return (await plane.init(WHY, force=True))[0].epoch == 2
        return False

    await eventually(begun_anew, "a new epoch, once this replica leads again", 5)


async def test_a_first_start_waits_for_a_gate_that_can_tell_it_from_lost_data(store: Memory) -> None:
    async with running(control_plane(store)) as plane:
        with pytest.raises(Unavailable, match="no gate has reported yet"):
            await plane.init(WHY)
        assert (await plane.init(WHY, force=True))[1]


async def report(store: Memory, gate: ObedientGate, epoch: int, number: int) -> None:
    """Let the gate run a revision, whatever Consul holds."""
    gate.obeys = False
    document = b'{"id":"gate-1","epoch":%d,"number":%d,"at":0}' % (epoch, number)
    await store.lock(GATES_PREFIX + "gate-1", document, gate.session)


@pytest.mark.feature("A5")
async def test_a_gate_that_runs_what_the_store_has_lost_has_nothing_in_force_until_that_is_accepted(
    plane: ControlPlane, store: Memory, gate: ObedientGate
) -> None:
    await report(store, gate, 1, 61)

    async def heard() -> bool:
        return plane.gates.running == (1, 61)

    await eventually(heard, "the gate's report")
    with pytest.raises(Conflict, match=r"epoch 1 revision 61, but Consul holds 1/0.*tekup state repair"):
        await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    repaired = await plane.repair(WHY)
    assert (repaired.revision.epoch, repaired.changed, repaired.waiting_for) == (2, True, ("gate-1",))
    await report(store, gate, 2, repaired.revision.number)
    assert not (await plane.repair(WHY)).waiting_for
    gate.obeys = True
    assert (await plane.rights.add_client(ClientPolicy(id="ci"), WHY)).changed


@pytest.mark.feature("A5")
async def test_a_revocation_that_only_the_gates_remember_is_written_down_again(
    plane: ControlPlane, store: Memory, gate: ObedientGate
) -> None:
    await plane.rights.add_client(ClientPolicy(id="ci"), WHY)
    key = (await plane.rights.create_key("ci", WHY))[0].document
    gate.obeys = False
    report = {"id": "gate-1", "epoch": 1, "number": 2, "at": 0, "revoked": {key.id: 77, "unknown": 5}}
    await store.lock(GATES_PREFIX + "gate-1", json.dumps(report).encode(), gate.session)

    async def heard() -> bool:
        return key.id in plane.gates.revoked

    await eventually(heard, "the gate's report")
    assert (await plane.repair(WHY)).changed
    assert (await plane.policy()).keys[key.id].revoked == 77


async def test_a_gate_that_is_gone_is_named_when_there_is_no_other(
    plane: ControlPlane, store: Memory, gate: ObedientGate
) -> None:
    gate.obeys = False
    await store.close_session(gate.session)
    assert (await plane.rights.add_client(ClientPolicy(id="ci"), WHY)).waiting_for == ("gate-1",)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"not json", "tekup/policy/clients/evil in Consul: Invalid JSON"),
        (b'{"id": "one"}', "tekup/policy/clients/evil in Consul says it is 'one'"),
    ],
)
async def test_a_document_that_makes_no_sense_is_named_with_a_remedy_and_hides_nothing_else(
    plane: ControlPlane, store: Memory, raw: bytes, said: str
) -> None:
    await store.commit([Write(Table.CLIENTS.prefix + "evil", raw)])
    with pytest.raises(Refused, match=said) as refused:
        await plane.repair(WHY)
    assert "consul kv delete" in str(refused.value)
    page = await plane.page()
    assert page.all(Table.SERVICES, ServicePolicy) == {}
    await store.commit([Write(Table.CLIENTS.prefix + "evil", None)])
    assert not (await plane.repair(WHY)).changed


async def test_a_second_replica_takes_over_when_the_first_stops(store: Memory, gate: ObedientGate) -> None:
    async with running(control_plane(store, "one"), gate) as first:
        await first.init(WHY)
        await first.rights.add_client(ClientPolicy(id="ci"), WHY)
    async with running(control_plane(store, "two"), gate) as second:
        assert "ci" in (await second.policy()).clients
        assert (await second.rights.add_client(ClientPolicy(id="other"), WHY)).revision.number == 2
