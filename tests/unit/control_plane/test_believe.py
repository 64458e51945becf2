"""What an agent believes of Consul."""

import pytest

from control_plane.agent.believe import Accepted, Kept, Memory, believed, judge, suspected
from control_plane.model import ClientPolicy, Instance, InstanceState, Key, Policy, Revision, Table
from control_plane.signed import table_sum
from control_plane.traefik import Checks

HERE = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
OTHER = Instance("search", "1.0.0", "bbbbbb", "127.0.0.1", 4002)


def with_(instance: Instance, **changes: object) -> Instance:
    return Instance(**{**vars(instance), **changes})


@pytest.mark.feature("C1")
def test_an_arrival_is_believed_at_once() -> None:
    assert believed([], [HERE], Checks()) == (HERE,)


def test_an_arrival_that_fails_its_check_is_not_believed() -> None:
    assert believed([], [with_(HERE, passing=False)], Checks()) == ()


def test_an_instance_consul_calls_critical_stays_while_traefik_finds_it_up() -> None:
    sick = with_(HERE, passing=False)
    assert believed([HERE], [sick], Checks()) == (HERE,)
    assert suspected([HERE], [sick]) == (HERE,)


@pytest.mark.feature("C1", "A4")
def test_an_instance_both_find_unready_gets_only_calls_on_its_handles_until_consul_finds_it_well() -> None:
    sick = with_(HERE, passing=False)
    assert believed([HERE], [sick], Checks(unready=frozenset({HERE.url}))) == (sick,)
    # No balancer checks it for readiness any more, and that says nothing.
    assert believed([sick], [sick], Checks()) == (sick,)
    assert believed([sick], [HERE], Checks()) == (HERE,)


@pytest.mark.feature("C1")
def test_an_instance_both_find_dead_is_gone() -> None:
    dead = Checks(unready=frozenset({HERE.url}), dead=frozenset({HERE.url}))
    assert believed([HERE], [with_(HERE, passing=False)], dead) == ()
    assert believed([HERE], [HERE], dead) == (HERE,)


def test_an_empty_consul_takes_nothing_away() -> None:
    assert believed([HERE, OTHER], [], Checks()) == (HERE, OTHER)


@pytest.mark.feature("A4", "B6")
def test_an_instance_that_drains_keeps_its_handles_until_it_has_deregistered_or_died() -> None:
    said = with_(HERE, state=InstanceState.DRAINING)
    unready = with_(said, passing=False)
    assert believed([HERE], [said], Checks()) == (said,)
    for held in (HERE, said):
        (kept,) = believed([held], [unready], Checks(unready=frozenset({HERE.url})))
        assert kept.state is InstanceState.DRAINING
        assert not kept.live
        assert suspected([held], [unready]) == (held,)
        assert believed([held], [unready], Checks(dead=frozenset({HERE.url}))) == ()
    assert believed([said], [], Checks()) == ()


def test_a_newcomer_on_the_same_address_replaces_the_old_one() -> None:
    heir = with_(HERE, id="cccccc")
    assert believed([HERE], [heir], Checks()) == (heir,)
    assert believed([HERE], [with_(HERE, passing=False), heir], Checks()) == (heir,)


def test_an_id_held_in_another_service_takes_nobodys_place() -> None:
    double = with_(HERE, service="zevil", port=4009)
    assert set(believed([HERE], [HERE, double], Checks())) == {HERE, double}
    assert suspected([HERE], [double]) == (HERE,)


def tables(**clients: str) -> dict[Table, dict[str, bytes]]:
    return {
        Table.SERVICES: {},
        Table.CLIENTS: {key: raw.encode() for key, raw in clients.items()},
        Table.KEYS: {},
    }


def revision(number: int, content: dict[Table, dict[str, bytes]], epoch: int = 1) -> Revision:
    return Revision(epoch=epoch, number=number, tables={table: table_sum(content[table]) for table in content})


def held(number: int, epoch: int = 1, **keys: Key) -> Memory:
    return Memory(Policy(revision(number, tables(), epoch), {}, {}, keys))


GOOD = tables(ci=ClientPolicy(id="ci").to_bytes().decode())


def test_a_whole_table_is_accepted() -> None:
    judged = judge(revision(3, GOOD).to_bytes(), GOOD, Memory())
    assert isinstance(judged, Accepted)
    assert judged.policy.clients["ci"].allow == ("*",)


def test_a_table_that_does_not_fit_its_revision_is_waited_for() -> None:
    judged = judge(revision(3, GOOD).to_bytes(), tables(), Memory())
    assert judged == Kept("table clients does not fit revision 3", passing=True)


@pytest.mark.parametrize(
    ("raw", "memory", "said"),
    [
        (None, held(4), "goes on with epoch 1 revision 4"),
        (b"{", Memory(), "tekup/policy/revision"),
        (revision(3, GOOD).to_bytes(), held(4), "older than the 1/4 in force"),
        (revision(9, GOOD).to_bytes(), held(4, epoch=2), "older than the 2/4 in force"),
        (revision(4, GOOD).to_bytes(), held(4), "another epoch 1 revision 4"),
    ],
)
def test_what_makes_no_sense_or_goes_back_is_kept_out(raw: bytes | None, memory: Memory, said: str) -> None:
    judged = judge(raw, GOOD, memory)
    assert isinstance(judged, Kept)
    assert said in judged.problem


@pytest.mark.parametrize("number", [3, 4])
def test_an_older_state_is_a_problem_only_once_all_of_it_is_read(number: int) -> None:
    older = revision(number, GOOD).to_bytes()
    for read, passing in ((tables(), True), (GOOD, False)):
        judged = judge(older, read, held(4))
        assert isinstance(judged, Kept)
        assert judged.passing is passing


def test_a_new_epoch_may_begin_again_at_a_low_number() -> None:
    assert isinstance(judge(revision(1, GOOD, epoch=2).to_bytes(), GOOD, held(40)), Accepted)


@pytest.mark.feature("A5")
def test_a_bad_client_is_refused_alone_and_named() -> None:
    content = {**GOOD, Table.CLIENTS: {**GOOD[Table.CLIENTS], "bad": b'{"id": 7}'}}
    judged = judge(revision(5, content).to_bytes(), content, Memory())
    assert isinstance(judged, Accepted)
    assert set(judged.policy.clients) == {"ci"}
    assert "clients/bad" in judged.problems[0]


@pytest.mark.feature("A5")
def test_a_restore_cannot_bring_a_revoked_key_back() -> None:
    key = Key(id="k1", client="ci", hash="0" * 64, created=1)
    content = {**GOOD, Table.KEYS: {"k1": key.to_bytes()}}
    judged = judge(revision(1, content, epoch=2).to_bytes(), content, Memory(None, {"k1": 99}))
    assert isinstance(judged, Accepted)
    assert judged.policy.keys["k1"].revoked == 99
