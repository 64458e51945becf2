"""Rules and copies, from policy and instances to what a gate reads."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic import ValidationError

from control_plane import render, routes
from control_plane.model import Instance, Lane, Policy, Revision, Rule, ServicePolicy, Split, Table
from control_plane.signed import table_sum

OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
TWIN = Instance("search", "1.1.0", "bbbbb2", "127.0.0.1", 4012)
COPIED = "search_1-0-0~search_1-1-0"

pytestmark = pytest.mark.feature("C8")


def rule(weights: dict[str, float], name: str = "reads", mirror: str = "") -> Rule:
    lanes = tuple(Lane(version=version, weight_pct=weight) for version, weight in weights.items())
    return Rule(name=name, lanes=lanes, mirror=mirror)


def policy(*rules: Rule, closed: tuple[str, ...] = (), split: Split = "request", salt: str = "") -> Policy:
    lanes = (Lane(version="1.0.0", weight_pct=100),)
    decided = ServicePolicy(
        name="search", stable="1.0.0", lanes=lanes, rules=rules, closed=closed, split=split, salt=salt
    )
    return Policy(Revision(epoch=1, number=1, tables=dict.fromkeys(Table, table_sum({}))), {"search": decided}, {}, {})


def table(decided: Policy, *instances: Instance, routed: frozenset[str] | None = None) -> dict[str, Any]:
    return cast("dict[str, Any]", render.services_table(decided, instances, routed)["search"])


def services(decided: Policy, *instances: Instance) -> dict[str, Any]:
    return cast("dict[str, dict[str, Any]]", routes.routes(decided, instances)["http"])["services"]


def test_a_service_without_rules_is_written_as_before_there_were_rules() -> None:
    assert list(table(policy(), OLD)) == ["stable", "lanes", "split", "instances"]


def test_a_rule_carries_names_cohort_and_targets() -> None:
    made = Rule(name="canary", tools=("search_*",), cohort="beta", lanes=rule({"1.0.0": 99, "1.1.0": 1}).lanes)
    assert render.plain(table(policy(made), OLD, NEW)["rules"]) == [
        {
            "name": "canary",
            "tools": ["search_*"],
            "cohort": "beta",
            "lanes": [
                {"target": "search_1-0-0", "weight_pct": 99},
                {"target": "search_1-1-0", "weight_pct": 1},
            ],
        }
    ]


def test_split_and_salt_reach_the_gate() -> None:
    found = table(policy(split="client", salt="search-7"), OLD)
    assert (found["split"], found["salt"]) == ("client", "search-7")


def test_a_version_without_live_instances_leaves_its_share_of_a_rule_to_the_others() -> None:
    lanes = table(policy(rule({"1.0.0": 99, "1.1.0": 1})), OLD)["rules"][0]["lanes"]
    assert lanes == [{"target": "search_1-0-0", "weight_pct": 100}]


def test_a_rule_that_leads_to_nobody_leaves_its_calls_to_the_services_lanes() -> None:
    both = policy(rule({"1.1.0": 100}, name="first"), rule({"1.0.0": 100}, name="second"))
    assert [one["name"] for one in table(both, OLD)["rules"]] == ["second"]
    assert "rules" not in table(policy(rule({"1.0.0": 0, "1.1.0": 100})), OLD)


def test_a_closed_version_gets_no_calls_by_a_rule_either() -> None:
    assert "rules" not in table(policy(rule({"1.1.0": 100}), closed=("1.1.0",)), OLD, NEW)


@pytest.mark.feature("C7")
def test_a_mirrored_rule_leads_to_a_target_with_copies() -> None:
    decided = policy(rule({"1.0.0": 100}, mirror="1.1.0"))
    assert table(decided, OLD, NEW)["rules"][0]["lanes"] == [{"target": COPIED, "weight_pct": 100}]
    built = services(decided, OLD, NEW, TWIN)
    assert built[COPIED]["mirroring"] == {
        "service": f"{COPIED}.main",
        "maxBodySize": 65536,
        "mirrors": [{"name": f"{COPIED}.copies", "percent": 100}],
    }
    assert COPIED in routes.routers_of(routes.routes(decided, [OLD, NEW]))


@pytest.mark.feature("C7")
def test_what_is_copied_goes_where_it_went_and_its_copies_to_the_mirror_alone() -> None:
    built = services(policy(rule({"1.0.0": 100}, mirror="1.1.0")), OLD, NEW, TWIN)
    assert built[f"{COPIED}.main"] == {"middlewares": ["retry"], **built["search_1-0-0"]}
    copies = built[f"{COPIED}.copies"]
    assert copies["middlewares"] == ["copies", "copy"]
    assert copies["loadBalancer"]["servers"] == [{"url": TWIN.url}, {"url": NEW.url}]
    assert not {"healthCheck", "passiveHealthCheck"} & copies["loadBalancer"].keys()


@pytest.mark.feature("C7")
def test_attempts_are_made_once_inside_what_is_copied_and_around_everything_else() -> None:
    decided = policy(rule({"1.0.0": 100}, mirror="1.1.0"))
    built = cast("dict[str, Any]", routes.routes(decided, [OLD, NEW])["http"])
    for name, router in built["routers"].items():
        assert router.get("middlewares", []) == ([] if name == COPIED else ["retry"])
    retried = [name for name, part in built["services"].items() if "retry" in part.get("middlewares", [])]
    assert retried == [f"{COPIED}.main"]


@pytest.mark.feature("C7")
@pytest.mark.parametrize("instances", [(OLD,), (OLD, Instance(**{**vars(NEW), "passing": False}))])
def test_without_a_live_mirror_the_calls_go_on_as_ordinary_ones(instances: tuple[Instance, ...]) -> None:
    decided = policy(rule({"1.0.0": 100}, mirror="1.1.0"))
    assert table(decided, *instances)["rules"][0]["lanes"] == [{"target": "search_1-0-0", "weight_pct": 100}]
    assert not [name for name in services(decided, *instances) if "~" in name]


@pytest.mark.feature("C7")
def test_a_closed_mirror_gets_no_copies() -> None:
    decided = policy(rule({"1.0.0": 100}, mirror="1.1.0"), closed=("1.1.0",))
    assert table(decided, OLD, NEW)["rules"][0]["lanes"][0]["target"] == "search_1-0-0"
    assert not [name for name in services(decided, OLD, NEW) if "~" in name]


@pytest.mark.feature("C7")
def test_nothing_is_copied_by_a_target_that_traefik_does_not_show_yet() -> None:
    decided = policy(rule({"1.0.0": 100}, mirror="1.1.0"))
    lanes = table(decided, OLD, NEW, routed=frozenset({"search_1-0-0"}))["rules"][0]["lanes"]
    assert lanes == [{"target": "search_1-0-0", "weight_pct": 100}]


@pytest.mark.feature("C7")
def test_a_version_is_not_copied_to_itself() -> None:
    decided = policy(rule({"1.0.0": 50, "1.1.0": 50}, mirror="1.1.0"))
    assert [lane["target"] for lane in table(decided, OLD, NEW)["rules"][0]["lanes"]] == [COPIED, "search_1-1-0"]
    assert [name for name in services(decided, OLD, NEW) if name.endswith(".main")] == [f"{COPIED}.main"]


def test_two_rules_have_two_names() -> None:
    with pytest.raises(ValidationError, match="two rules have one name"):
        policy(rule({"1.0.0": 100}, name="a"), rule({"1.0.0": 100}, name="a"))
