"""Where a deployment goes: beside, shifted, the loser gone; and back to how things were, whatever goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.delivery import Delivery, Strategy
from control_plane.deploying import END_S, START_S, Act, Deployment, Seen, Stage, Wish, begun, failed, turn
from control_plane.errors import Conflict
from control_plane.rollout import Phase, Rollout

OLD, NEW = "1.0.0", "2.0.0"
WISH = Wish("search", NEW, None, {"strategy": "blue-green"}, "anna", "faster")
CALM = Seen(OLD, {OLD: 2}, {OLD: 2}, None, "", 60, 1000.0, frozenset({OLD}))
BOTH = replace(CALM, live={OLD: 2, NEW: 2}, there={OLD: 2, NEW: 2})


def rollout(phase: Phase, canary: str = NEW) -> Rollout:
    delivery = Delivery(service="search", strategy=Strategy.BLUE_GREEN)
    return Rollout(service="search", number=1, stable=OLD, canary=canary, delivery=delivery, author="anna",
                   reason="faster", began=0, since=0, phase=phase, said="because")  # fmt: skip


def shifting() -> Deployment:
    after, act = turn(begun(None, WISH, CALM), BOTH)
    assert act is Act.ROLL_OUT
    return after


def test_as_many_of_the_new_version_are_wanted_beside_the_old_as_there_are_and_nothing_of_the_old() -> None:
    asked = begun(None, WISH, CALM)
    assert (asked.stage, asked.instances) == (Stage.STARTING, 2)
    assert (asked.wanted(NEW), asked.wanted(OLD)) == (2, None)


def test_calls_are_shifted_once_all_are_ready_and_not_before() -> None:
    asked = begun(None, WISH, CALM)
    waiting, act = turn(asked, replace(CALM, live={OLD: 2, NEW: 1}))
    assert (waiting.stage, act) == (Stage.STARTING, Act.NOTHING)
    assert "1 of 2" in waiting.said
    assert shifting().stage is Stage.SHIFTING


def test_who_lost_goes_when_the_rollout_has_succeeded_and_nobody_is_held_afterwards() -> None:
    won = replace(BOTH, stable=NEW, rollout=rollout(Phase.SUCCEEDED), shares=frozenset({NEW}))
    ending, _ = turn(shifting(), won)
    assert (ending.stage, ending.wanted(OLD), ending.wanted(NEW)) == (Stage.ENDING, 0, 2)
    assert turn(ending, won)[0] == ending
    done, _ = turn(ending, replace(won, there={NEW: 2}))
    assert (done.stage, done.versions) == (Stage.DONE, ())


def test_while_the_old_version_is_kept_warm_nobody_is_stopped() -> None:
    held, act = turn(shifting(), replace(BOTH, stable=NEW, rollout=rollout(Phase.WARM)))
    assert (held.stage, held.wanted(OLD), act) == (Stage.SHIFTING, None, Act.NOTHING)
    assert "because" in held.said


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.FAILED, Phase.SUPERSEDED])
def test_a_rollout_that_does_not_succeed_takes_the_new_version_away_and_says_why(phase: Phase) -> None:
    ending, _ = turn(shifting(), replace(BOTH, rollout=rollout(phase)))
    assert (ending.wanted(NEW), ending.wanted(OLD)) == (0, None)
    over, _ = turn(ending, CALM)
    assert over.stage is Stage.FAILED
    assert "because" in over.said


def test_a_version_that_is_never_ready_is_taken_away_and_what_is_known_of_it_is_said() -> None:
    late = replace(CALM, now_s=CALM.now_s + START_S, there={OLD: 2, NEW: 2}, problem="no image")
    ending, act = turn(begun(None, WISH, CALM), late)
    assert (ending.wanted(NEW), act) == (0, Act.NOTHING)
    assert "no image" in ending.said
    assert turn(ending, late)[0] == ending, "its containers are still there"
    assert turn(ending, replace(late, now_s=late.now_s + END_S))[0].stage is Stage.FAILED


def test_another_number_of_the_stable_version_needs_no_rollout() -> None:
    asked = begun(None, replace(WISH, version=OLD, instances=3), CALM)
    ending, act = turn(asked, replace(CALM, live={OLD: 3}))
    assert (ending.stage, act) == (Stage.ENDING, Act.NOTHING)
    fewer = begun(None, replace(WISH, version=OLD, instances=1), CALM)
    assert turn(fewer, CALM)[0].stage is Stage.STARTING
    assert turn(fewer, replace(CALM, live={OLD: 1}))[0].stage is Stage.ENDING


def test_more_that_never_come_leave_as_many_as_there_were() -> None:
    asked = begun(None, replace(WISH, version=OLD, instances=3), CALM)
    assert turn(asked, replace(CALM, now_s=CALM.now_s + START_S))[0].wanted(OLD) == 2


def test_the_same_wish_again_changes_nothing_and_another_has_to_wait() -> None:
    asked = begun(None, WISH, CALM)
    assert begun(asked, WISH, BOTH) is asked
    with pytest.raises(Conflict, match="rollout abort"):
        begun(shifting(), replace(WISH, version="3.0.0"), BOTH)
    with pytest.raises(Conflict):
        begun(asked, replace(WISH, version="3.0.0"), BOTH)


def test_asking_for_the_stable_version_while_another_starts_takes_that_away() -> None:
    back = begun(begun(None, WISH, CALM), replace(WISH, version=OLD), CALM)
    assert (back.version, back.wanted(NEW), back.wanted(OLD)) == (OLD, 0, 2)


def test_a_service_that_is_not_rolled_out_is_shifted_and_its_old_version_kept_warm() -> None:
    hub = replace(WISH, service="hub")
    asked, act = turn(begun(None, hub, CALM), BOTH)
    assert act is Act.SHIFT
    flipped = replace(BOTH, stable=NEW, shares=frozenset({NEW}))
    assert turn(asked, flipped)[0].stage is Stage.SHIFTING
    later = replace(flipped, now_s=flipped.now_s + CALM.keep_warm_s)
    assert turn(asked, later)[0].wanted(OLD) == 0
    assert turn(asked, replace(later, stable=OLD))[0].wanted(NEW) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from([None, *Phase]), st.integers(0, 3), st.integers(0, 3), st.floats(0, 200)), max_size=20
    )
)
def test_whatever_happens_who_has_the_calls_is_never_wished_away(
    looks: list[tuple[Phase | None, int, int, float]],
) -> None:
    held, now_s = begun(None, WISH, CALM), CALM.now_s
    for phase, old, new, passed_s in looks:
        now_s += passed_s
        stable = NEW if phase in (Phase.WARM, Phase.SUCCEEDED) else OLD
        seen = replace(BOTH, stable=stable, live={OLD: old, NEW: new}, there={OLD: old, NEW: new}, now_s=now_s,
                       shares=frozenset({stable}), rollout=rollout(phase) if phase else None)  # fmt: skip
        before, (held, _) = held.stage, turn(held, seen)
        if held.stage is Stage.ENDING and before is not Stage.ENDING and phase is not None:
            assert held.wanted(stable) != 0 or phase in (None, Phase.WARM) or before is Stage.STARTING
    assert failed(held, CALM, "no").wanted(NEW) == 0
