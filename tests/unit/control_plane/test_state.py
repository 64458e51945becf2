"""The state as a whole over a store in memory: plan, apply, rollback, export, drift, restore, dry runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from control_plane.delivery import Delivery
from control_plane.errors import Conflict, NotFound, Refused
from control_plane.loop import ControlPlane, Outcome, Wish
from control_plane.model import ClientPolicy, Instance, Lane, Rule, ServicePolicy, Stored, Table
from control_plane.ports import Write
from control_plane.resources import KINDS, Resource
from control_plane.rollout import Phase
from tests.support.course import begun
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C9")
WHY = Wish("tester", "to see")
TRY = Wish("tester", "to see", dry_run=True)
OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
NOTES = Instance("notes", "1.0.0", "cccccc", "127.0.0.1", 4003)
KIND = {kind.document: name for name, kind in KINDS.items()}


def wanted(*documents: Stored) -> list[Resource]:
    return [Resource(KIND[type(one)], one, f"document {n}") for n, one in enumerate(documents, 1)]


def policy(name: str = "search", stable: str = "1.0.0", **lanes: float) -> ServicePolicy:
    shares = {version.strip("v").replace("_", "."): weight for version, weight in lanes.items()} or {stable: 100}
    return ServicePolicy(
        name=name, stable=stable, lanes=tuple(Lane(version=one, weight_pct=weight) for one, weight in shares.items())
    )


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
async def plane(store: Memory) -> AsyncIterator[ControlPlane]:
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        await plane.init(WHY)
        await store.register(OLD, NEW)

        async def seen() -> bool:
            return len(plane.instances()) == 2 and "search" in (await plane.policy()).services

        await eventually(seen, "search to be taken in")
        yield plane


async def number(plane: ControlPlane) -> int:
    return (await plane.page()).revision.number


async def test_a_set_is_applied_in_one_revision_and_the_second_time_it_is_so_already(plane: ControlPlane) -> None:
    before = await number(plane)
    wish = wanted(policy(v1_0_0=90, v1_1_0=10), ClientPolicy(id="ci"), Delivery(service="search"))
    outcome, _ = await plane.state.apply(wish, WHY)
    assert (outcome.changed, outcome.revision.number, outcome.waiting_for) == (True, before + 1, ())
    again, planned = await plane.state.apply(wish, WHY)
    assert (again.changed, again.revision.number, planned.changes) == (False, before + 1, ())


async def test_a_plan_says_what_apply_would_do_and_writes_nothing(plane: ControlPlane, store: Memory) -> None:
    everything = dict((await store.read("tekup/policy/")).entries)
    outcome, planned = await plane.state.apply(wanted(policy(), ClientPolicy(id="ci")), TRY)
    assert (outcome.changed, outcome.dry_run) == (True, True)
    assert [change.key for change in planned.changes] == ["tekup/policy/clients/ci"]
    assert dict((await store.read("tekup/policy/")).entries) == everything


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "the set holds no resource"),
        ([policy(v1_0_0=90, v9=10)], r"search has no instance of version 9; .*: 1.0.0, 1.1.0.*tekup scale search=1"),
        ([policy("other")], "the set leaves out service search; add .*or drop them with --prune"),
        ([policy(), policy("other")], "other has no instance of version 1.0.0; versions with instances: none"),
        ([policy(stable="1.1.0", v1_0_0=50, v1_1_0=50)], r"stable moves from 1.0.0 to 1.1.0, which has 50 % only"),
        ([policy(stable="1.0.0", v1_1_0=100)], "the stable version 1.0.0 has no lane"),
        ([policy().model_copy(update={"closed": ("1.0.0",)})], "1.0.0 is closed and has a share"),
        ([ClientPolicy(id="big", allow=tuple(f"{'x' * 64}{n}" for n in range(60)))], "use fewer or broader globs"),
    ],
)
async def test_what_does_not_fit_the_present_is_refused_before_anything_is_written(
    plane: ControlPlane, documents: list[Stored], said: str
) -> None:
    before = await number(plane)
    with pytest.raises(Refused, match=said):
        await plane.state.apply(wanted(*documents), WHY)
    assert await number(plane) == before


async def test_every_problem_is_said_at_once(plane: ControlPlane) -> None:
    big = ClientPolicy(id="big", allow=tuple(f"{'x' * 64}{n}" for n in range(60)))
    with pytest.raises(Refused, match=r"(?s)big.*search has no instance of version 9"):
        await plane.state.apply(wanted(policy(v1_0_0=90, v9=10), big), WHY)


async def test_stable_moves_to_a_version_that_gets_everything(plane: ControlPlane) -> None:
    outcome, _ = await plane.state.apply(wanted(policy(stable="1.1.0")), WHY)
    assert outcome.changed


async def test_a_share_that_was_there_before_needs_no_instance(plane: ControlPlane, store: Memory) -> None:
    await plane.state.apply(wanted(policy(v1_0_0=90, v1_1_0=10)), WHY)
    await store.register(OLD)

    async def gone() -> bool:
        return NEW not in plane.instances()

    await eventually(gone, "the new instance to be gone")
    kept = policy(v1_0_0=90, v1_1_0=10).model_copy(update={"salt": "x"})
    assert (await plane.state.apply(wanted(kept), WHY))[0].changed
    with pytest.raises(Refused, match=r"no instance of version 1\.1\.0"):
        await plane.state.apply(wanted(policy(v1_0_0=80, v1_1_0=20)), WHY)


async def test_a_wish_against_an_older_revision_is_a_conflict(plane: ControlPlane) -> None:
    with pytest.raises(Conflict, match="you read revision 0, it is 1 now"):
        await plane.state.apply(wanted(ClientPolicy(id="ci")), Wish("tester", "late", expected_number=0))


async def test_a_set_speaks_for_its_kinds_only_and_prune_removes_what_it_leaves_out(plane: ControlPlane) -> None:
    await plane.state.apply(wanted(ClientPolicy(id="one"), ClientPolicy(id="two")), WHY)
    key, _ = await plane.rights.create_key("two", WHY)
    _, planned = await plane.state.apply(wanted(ClientPolicy(id="one")), WHY)
    assert (planned.changes, planned.kept) == ((), ("Client two",))
    await plane.state.apply(wanted(ClientPolicy(id="one")), WHY, prune=True)
    after = await plane.policy()
    assert (set(after.clients), set(after.services)) == ({"one"}, {"search"})
    assert after.keys[key.document.id].revoked == 1000


async def test_a_service_that_has_instances_is_not_pruned(plane: ControlPlane, store: Memory) -> None:
    await store.register(OLD, NEW, NOTES)

    async def seen() -> bool:
        return "notes" in (await plane.policy()).services

    await eventually(seen, "notes to be taken in")
    with pytest.raises(Refused, match=r"service notes has instances \(cccccc\); stop them first"):
        await plane.state.apply(wanted(policy()), WHY, prune=True)


async def test_what_is_exported_changes_nothing_when_it_is_applied(plane: ControlPlane) -> None:
    await plane.state.apply(wanted(policy(), ClientPolicy(id="ci"), Delivery(service="search")), WHY)
    _, documents = await plane.state.export()
    outcome, _ = await plane.state.apply(wanted(*documents.values()), WHY, prune=True)
    assert not outcome.changed


async def test_a_rollback_brings_back_the_content_and_leaves_keys_alone(plane: ControlPlane) -> None:
    await plane.state.apply(wanted(policy(v1_0_0=90, v1_1_0=10), ClientPolicy(id="ci", allow=("a",))), WHY)
    then = await number(plane)
    key, _ = await plane.rights.create_key("ci", WHY)
    await plane.state.apply(wanted(policy(stable="1.1.0"), Delivery(service="search")), WHY)
    await plane.rights.remove_client("ci", WHY)
    await plane.rights.add_client(ClientPolicy(id="later"), WHY)
    later, _ = await plane.rights.create_key("later", WHY)

    outcome, _ = await plane.state.rollback(then, WHY)
    assert outcome.changed
    after = await plane.policy()
    assert after.services["search"] == policy(v1_0_0=90, v1_1_0=10)
    assert after.clients == {"ci": ClientPolicy(id="ci", allow=("a",))}
    assert (await plane.page()).tables[Table.DELIVERY] == {}
    assert (after.keys[key.document.id].revoked, after.keys[later.document.id].revoked) == (1000, 0)
    again, _ = await plane.state.rollback(then, WHY)
    assert (again.changed, again.revision.number) == (False, outcome.revision.number)
    assert (await plane.state.record(outcome.revision.number)).verb == "state.rollback"


async def test_a_rollback_into_the_middle_of_a_rollout_brings_stable_back_and_no_step_of_it(
    plane: ControlPlane,
) -> None:
    rule = Rule(name="rollout", tools=("search_*",), lanes=(Lane(version="1.1.0", weight_pct=100),))
    mine = rule.model_copy(update={"name": "mine"})
    steps = (
        policy(v1_0_0=90, v1_1_0=10).model_copy(update={"salt": "search-3"}),
        policy().model_copy(update={"rules": (rule, mine)}),
    )
    for step in steps:
        await plane.state.apply(wanted(step), WHY)
        then = await number(plane)
        await plane.state.apply(wanted(policy(stable="1.1.0")), WHY)
        _, planned = await plane.state.rollback(then, WHY)
        assert planned.settled == ("search",)
        others = tuple(one for one in step.rules if one.name == "mine")
        assert (await plane.policy()).services["search"] == policy().model_copy(update={"rules": others})


async def test_a_rollback_can_be_rolled_back(plane: ControlPlane) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    await plane.rights.add_client(ClientPolicy(id="two"), WHY)
    before = await number(plane)
    await plane.state.rollback(before - 1, WHY)
    assert set((await plane.policy()).clients) == {"one"}
    await plane.state.rollback(before, WHY)
    assert set((await plane.policy()).clients) == {"one", "two"}


async def test_a_dry_rollback_says_what_would_change(plane: ControlPlane) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    outcome, planned = await plane.state.rollback(1, TRY)
    assert (outcome.changed, [change.after for change in planned.changes]) == (True, [None])
    assert "one" in (await plane.policy()).clients


async def test_a_rollback_to_what_never_was_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(NotFound, match="revision 99 does not exist; the last one is 1"):
        await plane.state.rollback(99, WHY)


async def test_a_rollback_to_a_version_that_nobody_serves_is_refused(plane: ControlPlane, store: Memory) -> None:
    await plane.state.apply(wanted(policy(stable="1.1.0")), WHY)
    await store.register(NEW)

    async def gone() -> bool:
        return OLD not in plane.instances()

    await eventually(gone, "the old instance to be gone")
    with pytest.raises(Refused, match=r"search has no instance of version 1\.0\.0"):
        await plane.state.rollback(1, WHY)


async def test_a_service_that_came_later_stays_at_a_rollback(plane: ControlPlane, store: Memory) -> None:
    then = await number(plane)
    await store.register(OLD, NEW, NOTES)

    async def seen() -> bool:
        return "notes" in (await plane.policy()).services

    await eventually(seen, "notes to be taken in")
    outcome, planned = await plane.state.rollback(then, WHY)
    assert (outcome.changed, planned.kept) == (False, ("Service notes",))


@pytest.mark.parametrize("phase", [Phase.BAKING, Phase.PAUSED, Phase.PREPARING])
async def test_a_service_whose_rollout_runs_is_left_alone(plane: ControlPlane, store: Memory, phase: Phase) -> None:
    await plane.state.apply(wanted(policy(v1_0_0=90, v1_1_0=10)), WHY)
    running = begun().model_copy(update={"phase": phase})
    await store.commit([Write("tekup/state/rollouts/search", running.to_bytes())])
    for verb in (plane.state.apply(wanted(policy()), WHY), plane.state.rollback(1, WHY)):
        with pytest.raises(Refused, match="is under way"):
            await verb
    assert (await plane.state.apply(wanted(ClientPolicy(id="ci")), WHY))[0].changed
    ended = running.model_copy(update={"phase": Phase.SUCCEEDED})
    await store.commit([Write("tekup/state/rollouts/search", ended.to_bytes())])
    assert (await plane.state.rollback(1, WHY))[0].changed


async def test_history_lists_the_newest_first_and_pages(plane: ControlPlane) -> None:
    for n in range(25):
        await plane.rights.add_client(ClientPolicy(id=f"c{n}"), WHY)
    assert [one.number for one in await plane.state.history(limit=3)] == [26, 25, 24]
    assert [one.number for one in await plane.state.history(limit=3, below=11)] == [10, 9, 8]
    assert [one.number for one in await plane.state.history(limit=1000)] == list(range(26, -1, -1))
    with pytest.raises(Refused, match="limit 1001 does not lie between 1 and 1000"):
        await plane.state.history(limit=1001)


async def test_drift_says_what_another_hand_changed_and_restore_puts_it_back(
    plane: ControlPlane, store: Memory
) -> None:
    await plane.state.apply(wanted(ClientPolicy(id="one"), ClientPolicy(id="two")), WHY)
    assert (await plane.state.drift(plane.gates.all)).tables == ()
    await store.commit(
        [
            Write("tekup/policy/clients/one", b'{"id":"one","allow":["evil_*"]}'),
            Write("tekup/policy/clients/two", None),
            Write("tekup/policy/clients/three", b"not json"),
        ]
    )
    drift = await plane.state.drift(plane.gates.all)
    assert drift.tables == (Table.CLIENTS,)
    assert [
        (change.key.rpartition("/")[2], change.before is None, change.after is None) for change in drift.changes
    ] == [
        ("one", False, False),
        ("three", True, False),
        ("two", False, True),
    ]
    restored = await plane.restore(WHY)
    assert restored.changed
    assert (await plane.policy()).clients == {"one": ClientPolicy(id="one"), "two": ClientPolicy(id="two")}
    assert not (await plane.restore(WHY)).changed
    record = await plane.state.record(restored.revision.number)
    assert (record.verb, len(record.changes)) == ("state.restore", 3)
    assert (await plane.rights.add_client(ClientPolicy(id="four"), WHY)).changed


async def test_of_a_key_changed_by_hand_drift_names_the_table_and_nothing_is_put_back(
    plane: ControlPlane, store: Memory
) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    key, _ = await plane.rights.create_key("one", WHY)
    await store.commit([Write(Table.KEYS.prefix + key.document.id, None)])
    drift = await plane.state.drift(plane.gates.all)
    assert (drift.tables, drift.changes) == ((Table.KEYS,), ())
    assert not (await plane.restore(WHY)).changed


async def test_a_gate_that_lags_is_drift(plane: ControlPlane, store: Memory) -> None:
    gone = await store.open_session("gone", 5)
    report = b'{"id":"gate-2","epoch":1,"number":0,"at":0,"problems":["no disk"]}'
    await store.lock("tekup/gates/gate-2", report, gone)

    async def heard() -> bool:
        return "gate-2" in plane.gates.all

    await eventually(heard, "the report")
    assert (await plane.state.drift(plane.gates.all)).gates == (
        "gate gate-2: no disk",
        "gate gate-2: runs 1/0, not 1/1",
    )


async def everything(store: Memory) -> dict[str, bytes]:
    found = (await store.read("tekup/")).entries
    return {key: entry.value for key, entry in found.items() if key.startswith(("policy/", "keys/", "state/"))}


@pytest.mark.parametrize("verb", ["set_traffic", "add", "remove", "create_key", "revoke_key"])
async def test_a_dry_run_of_any_verb_writes_nothing(plane: ControlPlane, store: Memory, verb: str) -> None:
    await plane.rights.add_client(ClientPolicy(id="one"), WHY)
    key, _ = await plane.rights.create_key("one", WHY)
    before = await everything(store)

    async def try_it() -> Outcome:
        if verb == "set_traffic":
            return await plane.set_traffic("search", {"1.1.0": 20}, TRY)
        if verb == "add":
            return await plane.rights.add_client(ClientPolicy(id="two"), TRY)
        if verb == "remove":
            return await plane.rights.remove_client("one", TRY)
        if verb == "create_key":
            return (await plane.rights.create_key("one", TRY))[1]
        return await plane.rights.revoke_key(key.document.id, TRY)

    said = await try_it()
    assert (said.changed, said.dry_run, len(said.changes)) == (True, True, 2 if verb == "remove" else 1)
    assert await everything(store) == before


async def test_a_dry_run_refuses_what_would_be_refused(plane: ControlPlane, store: Memory) -> None:
    await store.register()

    async def gone() -> bool:
        return not plane.instances()

    await eventually(gone, "the instances to be gone")
    with pytest.raises(Refused, match="no service at all"):
        await plane.forget_service("search", TRY)
