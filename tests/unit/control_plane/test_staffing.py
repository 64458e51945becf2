"""How many there are to answer for each version that has a share."""

from __future__ import annotations

from dataclasses import replace

from control_plane.model import Instance, InstanceState, Lane, Rule, ServicePolicy
from control_plane.staffing import staffing

OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
LANES = (Lane(version="1.0.0", weight_pct=90), Lane(version="1.1.0", weight_pct=10))
DECIDED = ServicePolicy(name="search", stable="1.0.0", lanes=LANES)


def test_a_version_with_a_share_and_nobody_who_lives_counts_0() -> None:
    assert staffing([DECIDED], [OLD]) == {("search", "search_1-0-0"): 1, ("search", "search_1-1-0"): 0}


def test_who_is_unready_or_drains_or_is_another_service_s_answers_nobody() -> None:
    others = [
        replace(NEW, passing=False),
        replace(NEW, id="cccccc", state=InstanceState.DRAINING),
        replace(NEW, service="notes"),
    ]
    assert staffing([DECIDED], [OLD, *others])["search", "search_1-1-0"] == 0


def test_a_lane_of_a_rule_counts_as_well() -> None:
    rule = Rule(name="canary", cohort="eager", lanes=(Lane(version="1.2.0", weight_pct=100),))
    assert staffing([DECIDED.model_copy(update={"rules": (rule,)})], [OLD, NEW])["search", "search_1-2-0"] == 0


def test_no_share_and_a_closed_version_are_nobody_s_concern() -> None:
    idle = (Lane(version="1.0.0", weight_pct=100), Lane(version="1.1.0", weight_pct=0))
    decided = DECIDED.model_copy(update={"lanes": idle, "closed": ("1.2.0",)})
    assert staffing([decided], [OLD]) == {("search", "search_1-0-0"): 1}
    closed = DECIDED.model_copy(update={"closed": ("1.1.0",)})
    assert staffing([closed], [OLD]) == {("search", "search_1-0-0"): 1}
