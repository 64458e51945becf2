"""Which instances are taken for lost, by what the catalog shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.losses import FORGOTTEN_S, MISSED_FOR_S, REMEMBERED_S, Losses
from control_plane.model import Instance, InstanceState

ONE = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001, started="100.000")
OTHER = Instance("search", "1.0.0", "bbbbbb", "127.0.0.1", 4002, started="100.000")
UNREADY = replace(ONE, passing=False)
DEAD = replace(ONE, passing=False, dead=True)
DRAINING = replace(ONE, state=InstanceState.DRAINING)
LOST = [("search", "1.0.0")]


class Following:
    """What is lost, over a course of catalogs a second apart."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.now_s = 1000.0

    def see(self, *instances: Instance) -> list[tuple[str, str]]:
        self.now_s += 1
        self.losses.seen("search", instances, self.now_s)
        return self.losses.turn(self.now_s, leading=True)

    def later(self, seconds: float = MISSED_FOR_S, *, leading: bool = True) -> list[tuple[str, str]]:
        self.now_s += seconds
        return self.losses.turn(self.now_s, leading=leading)


@pytest.fixture
def following() -> Following:
    made = Following()
    assert made.see(ONE, OTHER) == []
    return made


def test_a_killed_instance_is_lost_once(following: Following) -> None:
    assert following.see(DEAD, OTHER) == LOST
    assert following.see(DEAD, OTHER) == []
    assert following.see(OTHER) == []
    assert following.later() == []


def test_one_that_vanishes_without_a_word_is_lost_after_a_while(following: Following) -> None:
    assert following.see(OTHER) == []
    assert following.later(MISSED_FOR_S - 1) == []
    assert following.later(1) == LOST
    assert following.later() == []


@pytest.mark.parametrize(
    "gone", [DRAINING, replace(DRAINING, passing=False), replace(DRAINING, passing=False, dead=True)]
)
def test_one_that_drains_is_not_lost_however_it_goes(following: Following, gone: Instance) -> None:
    following.see(DRAINING, OTHER)
    assert following.see(gone, OTHER) == []
    assert following.see(OTHER) == []
    assert following.later() == []


def test_one_that_is_not_ready_or_hangs_is_not_lost(following: Following) -> None:
    assert following.see(UNREADY, OTHER) == []
    assert following.later() == []
    assert following.see(ONE, OTHER) == []


def test_a_restarted_consul_that_shows_all_critical_at_first_loses_nothing(following: Following) -> None:
    following.losses.unseen("search")
    assert following.see(UNREADY, replace(OTHER, passing=False)) == []
    assert following.see(ONE, OTHER) == []
    assert following.later() == []


def test_an_emptied_consul_loses_nothing_if_the_instances_come_back(following: Following) -> None:
    assert following.see() == []
    assert following.see(ONE, OTHER) == []
    assert following.later() == []


def test_who_left_while_the_catalog_could_not_be_read_may_have_left_in_order(following: Following) -> None:
    following.losses.unseen("search")
    assert following.see(OTHER) == []
    assert following.later() == []


def test_who_died_while_the_catalog_could_not_be_read_is_lost(following: Following) -> None:
    following.losses.unseen("search")
    assert following.see(DEAD, OTHER) == LOST


def test_another_process_under_the_same_id_tells_that_the_one_before_was_killed(following: Following) -> None:
    anew = replace(ONE, started="101.500")
    assert anew == ONE, "whoever routes to it sees no difference"
    assert following.see(anew, OTHER) == LOST
    assert following.see(anew, OTHER) == []


def test_a_process_that_drained_may_come_back_under_the_same_id(following: Following) -> None:
    following.see(DRAINING, OTHER)
    assert following.see(replace(ONE, started="101.500"), OTHER) == []


def test_a_loss_is_counted_once_though_it_was_seen_dead_before_it_came_back(following: Following) -> None:
    assert following.see(DEAD, OTHER) == LOST
    assert following.see(replace(ONE, started="101.500"), OTHER) == []


def test_one_that_was_never_live_is_not_lost(following: Following) -> None:
    never = Instance("search", "1.1.0", "cccccc", "127.0.0.1", 4003, passing=False, dead=True)
    assert following.see(ONE, OTHER, never) == []
    assert following.see(ONE, OTHER) == []
    assert following.later() == []


def test_a_new_leader_counts_what_was_lost_a_moment_before_and_nothing_older(following: Following) -> None:
    following.losses.seen("search", (DEAD, OTHER), following.now_s)
    assert following.later(REMEMBERED_S - 1, leading=False) == []
    assert following.later(1) == LOST
    following.losses.seen("search", (ONE, replace(OTHER, passing=False, dead=True)), following.now_s)
    assert following.later(REMEMBERED_S + 1, leading=False) == []
    assert following.later(0) == []


def test_versions_are_shown_from_the_start_and_for_a_while_after(following: Following) -> None:
    assert following.losses.versions(following.now_s) == {("search", "1.0.0")}
    following.see(replace(ONE, version="2.0.0"))
    assert following.losses.versions(following.now_s + FORGOTTEN_S - 1) == {("search", "1.0.0"), ("search", "2.0.0")}
    assert following.losses.versions(following.now_s + FORGOTTEN_S + 1) == set()
