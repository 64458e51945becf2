"""What a gate reads, made from policy and instances."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from control_plane import render, routes
from control_plane.model import ClientPolicy, Instance, InstanceState, Key, Lane, Policy, Revision, ServicePolicy, Table
from control_plane.signed import grant, table_sum

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "signed.json").read_text())
OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
GONE = Instance("search", "1.0.0", "cccccc", "127.0.0.1", 4003, InstanceState.DRAINING)


def policy(
    *closed: str, stable: str = "1.0.0", clients: tuple[ClientPolicy, ...] = (), keys: tuple[Key, ...] = ()
) -> Policy:
    lanes = (Lane(version="1.0.0", weight_pct=90), Lane(version="1.1.0", weight_pct=10))
    decided = ServicePolicy(name="search", stable=stable, lanes=lanes, closed=closed)
    empty = table_sum({})
    revision = Revision(epoch=1, number=1, tables=dict.fromkeys(Table, empty))
    return Policy(revision, {"search": decided}, {one.id: one for one in clients}, {one.id: one for one in keys})


def lanes(*instances: Instance, decided: Policy | None = None) -> dict[str, float]:
    service = cast("dict[str, Any]", render.services_table(decided or policy(), instances)["search"])
    return {lane["target"]: lane["weight_pct"] for lane in service["lanes"]}


def test_lanes_carry_the_decided_weights() -> None:
    assert lanes(OLD, NEW) == {"search_1-0-0": 90, "search_1-1-0": 10}


@pytest.mark.feature("C1")
def test_a_version_without_live_instances_leaves_its_share_to_the_others() -> None:
    assert lanes(OLD) == {"search_1-0-0": 100}
    assert lanes(NEW, GONE) == {"search_1-1-0": 100}


def test_without_any_live_instance_there_is_no_lane() -> None:
    assert lanes(GONE) == {}


def test_a_version_without_a_lane_stands_in_when_all_lanes_are_dead() -> None:
    spare = Instance("search", "0.9", "dddddd", "127.0.0.1", 4009)
    assert lanes(spare) == {"search_0-9": 100}


def test_a_closed_version_gets_nothing_and_its_handles_lead_nowhere() -> None:
    table = cast("dict[str, Any]", render.services_table(policy("1.1.0"), [OLD, NEW])["search"])
    assert [lane["target"] for lane in table["lanes"]] == ["search_1-0-0"]
    assert table["instances"] == {"aaaaaa": "search_1-0-0_aaaaaa"}


def test_a_draining_instance_keeps_its_handles_but_takes_nothing_new() -> None:
    table = cast("dict[str, Any]", render.services_table(policy(), [OLD, GONE])["search"])
    assert table["instances"]["cccccc"] == "search_1-0-0_cccccc"
    built = cast("dict[str, Any]", routes.routes(policy(), [OLD, GONE])["http"])
    assert [one["url"] for one in built["services"]["search_1-0-0.lb"]["loadBalancer"]["servers"]] == [OLD.url]
    assert "search_1-0-0_cccccc" in built["routers"]


def test_lists_come_from_the_heaviest_version_while_stable_has_no_instance() -> None:
    table = cast("dict[str, Any]", render.services_table(policy(), [NEW])["search"])
    assert table["stable"] == "search_1-1-0"


def test_every_fallback_names_a_service_that_exists() -> None:
    built = cast("dict[str, Any]", routes.routes(policy(), [OLD, NEW, GONE])["http"])
    for service in built["services"].values():
        for name in service.get("failover", {}).values():
            assert name in built["services"] or name == "nobody"
        for child in service.get("weighted", {}).get("services", []):
            assert child["name"] in built["services"]
    for router in built["routers"].values():
        assert router["service"] in built["services"]


def test_when_every_check_says_no_the_instances_are_asked_all_the_same() -> None:
    built = cast("dict[str, Any]", routes.routes(policy(), [OLD, NEW, GONE])["http"])["services"]
    assert built["search.any"]["failover"] == {"service": "search.all", "fallback": "search.last"}
    last = built["search.last"]["loadBalancer"]
    assert {server["url"] for server in last["servers"]} == {OLD.url, NEW.url}
    assert "healthCheck" not in last
    assert "passiveHealthCheck" not in last


def test_an_instance_target_is_not_taken_out_by_failed_calls() -> None:
    built = cast("dict[str, Any]", routes.routes(policy(), [OLD])["http"])["services"]
    assert "passiveHealthCheck" not in built[f"{OLD.target}.lb"]["loadBalancer"]
    assert "passiveHealthCheck" in built["search_1-0-0.lb"]["loadBalancer"]


@pytest.mark.feature("A4")
def test_an_instance_target_asks_whether_it_lives_and_a_version_whether_it_is_ready() -> None:
    built = cast("dict[str, Any]", routes.routes(policy(), [OLD, GONE])["http"])["services"]
    paths = {name: part["loadBalancer"]["healthCheck"]["path"] for name, part in built.items() if ".lb" in name}
    assert paths == {"search_1-0-0.lb": "/ready", f"{OLD.target}.lb": "/health", f"{GONE.target}.lb": "/health"}


@pytest.mark.parametrize(("count", "interval"), [(100, "1s"), (101, "5s")])
def test_many_instances_are_checked_more_rarely(count: int, interval: str) -> None:
    many = [Instance("search", "1.0.0", f"{number:06x}", "127.0.0.1", 4000 + number) for number in range(count)]
    built = cast("dict[str, Any]", routes.routes(policy(), many)["http"])["services"]
    checks = [part["loadBalancer"].get("healthCheck") for name, part in built.items() if ".lb" in name]
    assert {check["interval"] for check in checks} == {interval}


def test_without_instances_a_placeholder_stands() -> None:
    assert routes.routers_of(routes.routes(policy(), [])) == {"placeholder"}


def test_departing_targets_stand_beside_the_new_ones_until_they_are_dropped() -> None:
    before, after = routes.routes(policy(), [OLD, NEW]), routes.routes(policy(), [NEW])
    both = routes.union(before, after)
    assert routes.routers_of(both) == routes.routers_of(before)
    assert routes.union(routes.routes(policy(), []), after) == after


def test_a_key_of_an_unknown_client_is_left_out() -> None:
    key = Key(id="k1", client="nobody", hash="0" * 64, created=1)
    assert render.clients_table(policy(keys=(key,)), b"m" * 32) == ({"clients": {}, "keys": {}}, ())


@pytest.mark.feature("A5")
def test_a_client_whose_grant_is_too_long_is_left_out_alone() -> None:
    big = ClientPolicy(id="big", allow=tuple(f"{'x' * 64}{n}" for n in range(60)))
    keys = tuple(Key(id=f"k-{owner}", client=owner, hash="0" * 64, created=1) for owner in ("big", "ci"))
    table, problems = render.clients_table(policy(clients=(big, ClientPolicy(id="ci")), keys=keys), b"m" * 32)
    assert set(table["keys"]) == {"k-ci"}
    assert "key k-big is refused" in problems[0]


@pytest.mark.feature("A5")
@pytest.mark.parametrize("row", [row for row in VECTORS["grants"] if row["valid"]], ids=lambda row: str(row["case"]))
def test_grants_equal_the_shared_examples(row: dict[str, Any]) -> None:
    payload = row["payload"]
    client = ClientPolicy(
        id=payload["client"], **{part: payload[part] for part in ("allow", "cohort", "roots", "hosts")}
    )
    made = {grant(client, payload["key"], bytes.fromhex(mac_key)) for mac_key in VECTORS["secrets"]["mac"]}
    assert row["grant"] in made


@pytest.mark.parametrize("row", VECTORS["tables"], ids=lambda row: f"{row['count']} documents")
def test_table_digests_equal_the_shared_examples(row: dict[str, Any]) -> None:
    summed = table_sum({key: value.encode() for key, value in row["values"].items()})
    assert (summed.sha256, summed.count) == (row["sha256"], row["count"])


@pytest.mark.feature("A5")
@pytest.mark.parametrize("row", VECTORS["api_keys"], ids=lambda row: str(row["id"]))
def test_key_hashes_equal_the_shared_examples(row: dict[str, str]) -> None:
    assert sha256(row["key"].encode()).hexdigest() == row["hash"]
