"""The course of a rollout: examples, and what holds whatever is observed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane import course, steer
from control_plane.contract import Waiver
from control_plane.course import Seen, explain, needs, turn
from control_plane.errors import Conflict, Refused
from control_plane.lint import warnings
from control_plane.model import Lane, ServicePolicy
from control_plane.readings import Counts, Missing
from control_plane.rollout import MOST_TOOLS, Phase, Rollout, Serves, policy_of
from control_plane.sequential import Count
from tests.support.course import CANARY, ONE, POLICY, STABLE, begun, by, delivery, look, until, well


def shares(rollout: Rollout) -> dict[str, float]:
    return {lane.version: lane.weight_pct for lane in policy_of(rollout, POLICY).lanes}


def test_a_good_canary_walks_all_steps_and_becomes_stable() -> None:
    rollout, seen = begun(), []
    for phase in ("shifting", "baking", "shifting", "baking", "promoting", "keeping_warm", "succeeded"):
        rollout, _ = until(rollout, phase, rollout.since)
        seen.append(shares(rollout).get(CANARY))
    assert seen == [10, 10, 50, 50, 100, 100, 100]
    assert policy_of(rollout, POLICY).stable == CANARY
    assert rollout.said == "1.1.0 is stable; 1.0.0 gets nothing and may be stopped"


def test_it_gets_no_call_before_the_contract_is_compared_and_the_probes_work() -> None:
    rollout = begun()
    for seen in (
        well(rollout, canary_ids=frozenset()),
        well(rollout, breaches=None, proof=None),
        well(rollout, proof="search_grep: timed out"),
    ):
        rollout = turn(rollout, seen, rollout.since + 1)
        assert rollout.phase is Phase.PREPARING
        assert shares(rollout) == {STABLE: 100}


def test_a_canary_that_breaks_the_contract_is_refused_with_the_difference() -> None:
    rollout = turn(begun(), well(begun(), breaches=("tool search_find is gone",)), 1)
    assert rollout.phase is Phase.FAILED
    assert "tool search_find is gone" in rollout.said
    assert "--waive" in rollout.said


def test_a_canary_whose_tools_fail_goes_back_at_once_and_is_closed() -> None:
    baking, now_s = until(begun(), "baking", 0)
    back, _ = until(baking, "rolling_back", now_s, bad={"tool_errors": 0.9})
    assert shares(back) == {STABLE: 100}
    assert policy_of(back, POLICY).closed == (CANARY,)
    assert "tool errors" in back.said
    ended = turn(back, well(back), back.since + 1)
    assert ended.phase is Phase.ROLLED_BACK


def test_a_rollback_is_over_only_when_every_gate_has_it() -> None:
    baking, now_s = until(begun(), "baking", 0)
    back = steer.abort(baking, by(now_s), drain=False)
    waiting = turn(back, well(back, waiting_for=("eu-2",)), now_s + 1)
    assert waiting.phase is Phase.ROLLING_BACK
    assert waiting.said == f"{back.said}; waits for gate eu-2"
    assert "waits for" not in turn(waiting, well(waiting), now_s + 2).said
    late = turn(back, well(back, waiting_for=("eu-2",)), now_s + course.IN_FORCE_S)
    assert late.phase is Phase.FAILED
    assert "eu-2" in late.said


@pytest.mark.parametrize("phase", ["shifting", "promoting"])
def test_a_gate_that_lags_is_named_and_at_the_deadline_a_person_is_asked(phase: str) -> None:
    before, now_s = until(begun(), phase, 0)
    waiting = turn(before, well(before, waiting_for=("eu-2",)), now_s + 2)
    assert waiting.said == f"{before.said}; waits for gate eu-2"
    assert turn(waiting, well(waiting, waiting_for=("eu-2",)), now_s + 4).said == waiting.said
    late = turn(waiting, well(waiting, waiting_for=("eu-2",)), now_s + course.IN_FORCE_S)
    assert late.phase is Phase.ASKING
    assert "eu-2" in late.asked


def test_without_metrics_it_holds_and_at_the_deadline_asks() -> None:
    baking, now_s = until(begun(), "baking", 0)
    held = baking
    while held.phase is Phase.BAKING:
        now_s += 5
        held = turn(held, well(held, look=Missing("Prometheus is away")), now_s)
    assert held.phase is Phase.ASKING
    assert "Prometheus is away" in held.said
    assert shares(held)[CANARY] == 10


def test_too_few_calls_make_it_probe_and_then_go_on_where_no_margin_is_asked() -> None:
    baking, _ = until(begun(), "baking", 0, calls_per_s=0)
    step_s = baking.step_since
    quiet = turn(baking, replace(well(baking), look=look(baking, 0), proof=None), step_s + 60)
    assert quiet.phase is Phase.BAKING
    assert needs(quiet, step_s + 60).proof
    assert turn(quiet, well(quiet), step_s + 61).phase is Phase.SHIFTING
    assert turn(quiet, well(quiet, proof="search_grep: no"), step_s + 61).phase is Phase.ROLLING_BACK


def test_too_few_calls_for_a_margin_make_it_ask_after_the_probes_work() -> None:
    second, now_s = until(until(begun(), "baking", 0)[0], "shifting", 20)
    second, now_s = until(second, "baking", now_s)
    asked, _ = until(second, "waiting_for_approval", now_s, calls_per_s=0)
    assert "no verdict in time" in asked.asked
    assert steer.promote(asked, by(now_s + 90), full=False).phase is Phase.PROMOTING


def test_a_canary_without_any_instance_goes_back_but_not_while_stable_has_none_either() -> None:
    baking, now_s = until(begun(), "baking", 0)
    gone = turn(baking, well(baking, canary_ids=frozenset()), now_s)
    assert gone.phase is Phase.BAKING  # a Consul agent that restarts shows nobody for a moment
    later_s = now_s + course.ABSENT_S
    assert turn(gone, well(gone, canary_ids=frozenset()), later_s).phase is Phase.ROLLING_BACK
    both = well(gone, canary_ids=frozenset(), stable_serves=False)
    assert turn(gone, both, later_s).phase is Phase.BAKING


def test_a_canary_that_keeps_losing_instances_goes_back() -> None:
    rollout, now_s = until(begun(), "baking", 0)
    for number in range(course.MOST_LOST + 1):
        now_s += course.ABSENT_S
        if rollout.phase is Phase.BAKING:
            rollout = turn(rollout, well(rollout, canary_ids=frozenset({f"{number:06d}"})), now_s)
            rollout = turn(rollout, well(rollout, canary_ids=frozenset({f"{number:06d}"})), now_s + 1)
    assert rollout.serves is Serves.STABLE
    assert "has lost 3 instances" in rollout.said


def test_an_instance_that_says_that_it_leaves_is_not_lost() -> None:
    rollout, now_s = until(begun(), "baking", 0)
    left = turn(rollout, well(rollout, canary_ids=frozenset({"bbbbbb"}), leaving=ONE), now_s)
    assert (left.alive, left.lost) == (("bbbbbb",), 0)


def test_blue_green_flips_everything_keeps_the_old_side_warm_and_flips_back_in_one_step() -> None:
    promoting, now_s = until(begun(strategy="blue-green"), "promoting", 0)
    assert shares(promoting) == {CANARY: 100}
    warm, now_s = until(promoting, "keeping_warm", now_s)
    back = steer.undo(warm, by(now_s), drain=True)
    assert shares(back) == {STABLE: 100}
    assert policy_of(back, POLICY).closed == ()


def test_blue_green_goes_back_by_itself_while_the_old_side_is_warm() -> None:
    warm, now_s = until(begun(strategy="blue-green"), "keeping_warm", 0)
    back, _ = until(warm, "rolling_back", now_s, bad={"http_5xx": 1.0}, limit_s=29)
    assert "5xx" in back.said


def test_an_approval_waits_for_a_person_and_in_the_end_goes_back() -> None:
    steps = ({"weight_pct": 5, "bake_s": 5, "approval": True},)
    asking, now_s = until(begun(steps=steps), "waiting_for_approval", 0)
    assert turn(asking, well(asking), now_s + course.ASK_S).phase is Phase.ROLLING_BACK
    assert steer.promote(asking, by(now_s), full=False).phase is Phase.PROMOTING


def test_a_paused_rollout_stays_and_is_still_rolled_back_when_it_fails() -> None:
    baking, now_s = until(begun(), "baking", 0)
    paused = steer.pause(baking, by(now_s))
    assert shares(paused) == shares(baking)
    assert steer.pause(paused, by(now_s + 1)) is paused
    assert until(paused, "rolling_back", now_s, bad={"tool_errors": 0.9})[0].said.startswith("back to 1.0.0")
    assert steer.resume(paused, by(now_s + 5)).phase is Phase.BAKING


def test_nothing_promotes_a_rollout_that_was_paused_before_its_contract_was_compared() -> None:
    paused = steer.pause(begun(), by(1))
    with pytest.raises(Refused, match="still being prepared"):
        steer.promote(paused, by(2), full=True)


def test_abort_wins_over_promote_full() -> None:
    baking, now_s = until(begun(), "baking", 0)
    promoting = steer.promote(baking, by(now_s), full=True)
    assert shares(promoting) == {CANARY: 100}
    assert shares(steer.abort(promoting, by(now_s), drain=False)) == {STABLE: 100}


def test_an_abort_does_not_close_a_canary_that_serves_alone() -> None:
    baking, now_s = until(begun(), "baking", 0)
    aborted = steer.abort(baking, by(now_s, stable_serves=False), drain=False)
    assert policy_of(aborted, POLICY).closed == ()


def test_what_is_said_does_not_hide_that_stable_has_no_instance() -> None:
    lonely = turn(begun(), well(begun(), stable_serves=False, breaches=None, proof=None, problem="away"), 1)
    assert lonely.said == "waits for an instance of 1.0.0 to compare 1.1.0 with; start one, or abort"
    baking, now_s = until(begun(), "baking", 0)
    alone = turn(baking, well(baking, stable_serves=False, look=look(baking, 5)), now_s + 6)
    assert alone.said.endswith("1.0.0 has no instance, so that others take its calls")
    back = steer.abort(alone, by(now_s, stable_serves=False), drain=False)
    ended = turn(back, well(back, stable_serves=False), now_s + 7)
    assert "1.0.0 gets everything on every gate, but has no instance: others take its calls" in ended.said


def test_a_step_for_one_tool_and_one_cohort_is_a_rule_and_its_checks_are_of_that_tool() -> None:
    steps = ({"weight_pct": 5, "tools": ["search_g*"], "cohort": "beta"},)
    rollout, _ = until(begun(steps=steps), "shifting", 0)
    policy = policy_of(rollout, POLICY)
    assert [lane.version for lane in policy.lanes] == [STABLE]
    assert (policy.rules[0].tools, policy.rules[0].cohort) == (("search_g*",), "beta")
    assert [check.name for check in rollout.plan.checks] == ["tool_errors:search_grep", "latency:search_grep"]


@pytest.mark.parametrize(
    ("step", "seen", "message"),
    [
        (
            {"weight_pct": 5, "tools": ["search_x*"]},
            {},
            r"step 2 \(5 % of search_x\*\): search has no tool that search_x",
        ),
        ({"mirror": True}, {"read_only": ()}, "has no read-only tool to copy calls of; both versions have none"),
        (
            {"mirror": True, "tools": ["search_x"]},
            {},
            "no read-only tool that search_x matches; both versions have search_",
        ),
    ],
)
def test_a_step_that_would_give_the_canary_nothing_ends_it_before_any_traffic(
    step: dict[str, object], seen: dict[str, object], message: str
) -> None:
    rollout = begun(steps=({"weight_pct": 1}, step))
    ended = turn(rollout, well(rollout, **seen), 1)
    assert ended.phase is Phase.FAILED
    assert re.search(message, ended.said)


def test_a_step_for_one_tool_that_nobody_calls_has_no_verdict() -> None:
    baking, now_s = until(begun(steps=({"weight_pct": 5, "tools": ["search_grep"], "margin": 0.05},)), "baking", 0)
    asking, now_s = until(baking, "waiting_for_approval", now_s, calls_per_s=0)
    assert "no verdict in time (errors of search_grep 0 of 0 on 1.1.0" in asking.said
    promoting, _ = until(baking, "promoting", baking.since, calls_per_s=100)
    assert promoting.serves is Serves.CANARY


def test_of_very_many_tools_those_that_a_step_is_about_are_judged_first() -> None:
    tools = tuple(f"search_{number:03}" for number in range(100))
    rollout = begun(steps=({"weight_pct": 5}, {"weight_pct": 5, "tools": ["search_09*"]}))
    ready = turn(rollout, well(rollout, tools=tools), 1)
    assert (len(ready.tools), ready.tools[0], ready.tools[10]) == (MOST_TOOLS, "search_090", "search_000")


def test_a_step_whose_tools_checks_are_all_dry_runs_is_judged_by_all_calls() -> None:
    mute = ("tool_errors:search_grep", "latency:search_grep")
    baking, _ = until(begun(steps=({"weight_pct": 5, "tools": ["search_grep"]},), dry_run=mute), "baking", 0)
    assert [check.name for check in baking.plan.checks] == ["http_5xx", "tool_errors", "deadline", "schema", "latency"]


def test_a_mirror_step_copies_read_only_tools_and_gives_the_canary_no_call() -> None:
    rollout, _ = until(begun(steps=({"mirror": True},)), "shifting", 0)
    policy = policy_of(rollout, POLICY)
    assert (policy.rules[0].tools, policy.rules[0].mirror) == (("search_grep",), CANARY)
    assert [lane.version for lane in (*policy.lanes, *policy.rules[0].lanes)] == [STABLE, STABLE]


def test_a_rollout_of_another_version_is_refused_while_one_is_under_way_unless_it_takes_its_place() -> None:
    baking, now_s = until(begun(), "baking", 0)
    wish = steer.Start("1.2.0", delivery(), "bob", "newer still")
    with pytest.raises(Conflict, match="--replace"):
        steer.start(baking, policy_of(baking, POLICY), wish, [STABLE, CANARY, "1.2.0"], now_s)
    new, before = steer.start(
        baking, policy_of(baking, POLICY), replace(wish, replace=True), [STABLE, CANARY, "1.2.0"], now_s
    )
    assert before is not None
    assert (before.phase, new.phase, new.number) == (Phase.SUPERSEDED, Phase.PREPARING, 2)
    assert shares(new) == {STABLE: 100}


def test_a_start_of_the_version_under_way_is_so_already_unless_it_is_asked_for_in_another_way() -> None:
    baking, now_s = until(begun(), "baking", 0)
    wish = steer.Start(CANARY, delivery(), "bob", "once more")
    assert steer.start(baking, policy_of(baking, POLICY), wish, [STABLE, CANARY], now_s) == (baking, None)
    for other in (
        replace(wish, delivery=delivery(keep_warm_s=7)),
        replace(wish, waivers=(Waiver(what="search_find:gone", reason="unused"),)),
    ):
        with pytest.raises(Conflict, match=r"in another way than you ask for now \(baking\).*--replace"):
            steer.start(baking, policy_of(baking, POLICY), other, [STABLE, CANARY], now_s)


def test_answers_to_our_own_probes_are_no_calls_of_clients() -> None:
    baking, now_s = until(begun(), "baking", 0)
    readings = look(baking, 0)
    assert not isinstance(readings, Missing)
    for number in range(12):
        answers = Counts(Count(0, 10 * number), Count(0, 10 * number))
        probed = {name: answers if name == "http_5xx" else none for name, none in readings.items()}
        baking = turn(baking, well(baking, look=probed), now_s + 5 * number)
    assert baking.phase is Phase.BAKING
    assert "0 calls to 1.1.0 so far, 10 are needed" in baking.said


@pytest.mark.parametrize(
    ("steps", "warning"),
    [
        (({"weight_pct": 5, "cohort": "gone"},), "step 1 is for cohort gone, which no client is in"),
        (({"weight_pct": 5}, {"mirror": True}), "step 2 copies calls only after a step has given"),
    ],
)
def test_lint_names_steps_that_come_to_nothing(steps: tuple[dict[str, object], ...], warning: str) -> None:
    assert any(warning in text for text in warnings(delivery(steps=steps), {"", "beta"}))
    assert not any(
        "cohort" in text for text in warnings(delivery(steps=({"weight_pct": 1, "cohort": "beta"},)), {"beta"})
    )


@pytest.mark.parametrize(
    ("canary", "lanes", "message"),
    [
        (STABLE, (100, 0), "stable version already"),
        ("9.9.9", (100, 0), "no instance of version 9.9.9"),
        (CANARY, (90, 10), "split by hand"),
        ("1-1-0".replace("-", "."), (90, 10), "split by hand"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused_with_what_to_do(
    canary: str, lanes: tuple[int, int], message: str
) -> None:
    split = tuple(Lane(version=v, weight_pct=w) for v, w in zip((STABLE, CANARY), lanes, strict=True) if w)
    policy = POLICY.model_copy(update={"lanes": split})
    with pytest.raises(Refused, match=message):
        steer.start(None, policy, steer.Start(canary, delivery(), "ada", "x"), [STABLE, CANARY], 0)


def test_every_state_says_why_in_one_line() -> None:
    rollout = begun()
    for phase in ("shifting", "baking", "promoting", "keeping_warm", "succeeded"):
        rollout, now_s = until(rollout, phase, rollout.since)
        said = explain(rollout, now_s).sentence
        assert said
        assert "\n" not in said
        assert rollout.events[-1].said == said or phase == "baking"


observations: st.SearchStrategy[dict[str, object]] = st.builds(
    dict,
    stable_serves=st.booleans(),
    canary_ids=st.sampled_from([frozenset(), ONE, frozenset({"aaaaaa", "bbbbbb"}), frozenset({"cccccc"})]),
    leaving=st.sampled_from([frozenset(), ONE]),
    waiting_for=st.sampled_from([(), (), (), ("eu-2",)]),
    breaches=st.sampled_from([None, (), (), (), ("tool search_find is gone",)]),
    proof=st.sampled_from([None, "", "", "", "search_grep: no"]),
    kind=st.sampled_from(["none", "well", "well", "bad", "away"]),
    after_s=st.sampled_from([1, 1, 1, 5, 30, 700]),
    verb=st.sampled_from(["", "", "", "", "", "pause", "resume", "promote", "full", "abort"]),
)


def steered(rollout: Rollout, verb: str, now_s: float) -> Rollout:
    moves = {
        "pause": lambda: steer.pause(rollout, by(now_s)),
        "resume": lambda: steer.resume(rollout, by(now_s)),
        "promote": lambda: steer.promote(rollout, by(now_s), full=False),
        "full": lambda: steer.promote(rollout, by(now_s), full=True),
        "abort": lambda: steer.abort(rollout, by(now_s), drain=False),
    }
    try:
        return moves[verb]() if verb else rollout
    except Refused:
        return rollout


@settings(max_examples=300, deadline=None)
@given(st.lists(observations, max_size=40), st.sampled_from(["canary", "blue-green", "immediate"]), st.booleans())
def test_whatever_happens_the_rules_hold(course_of: list[dict[str, object]], strategy: str, approval: bool) -> None:
    rollout, now_s, calls, alone_s = begun(strategy=strategy, approval=approval), 0.0, 0, 0.0
    asked, policy = False, POLICY
    for seen_of in course_of:
        given_ = dict(seen_of)
        kind, after_s, verb = given_.pop("kind"), given_.pop("after_s"), str(given_.pop("verb"))
        now_s += float(str(after_s))
        calls += 100
        looks = {"none": None, "away": Missing("away"), "well": look(rollout, calls),
                 "bad": look(rollout, calls, {"tool_errors": 1.0})}  # fmt: skip
        seen = well(rollout, look=looks[str(kind)], **given_)
        asked = asked or (seen.breaches == () and seen.proof == "")
        before = rollout
        rollout = turn(steered(rollout, verb, now_s), seen, now_s)

        policy = policy_of(rollout, policy)
        assert ServicePolicy.model_validate(policy.model_dump()) == policy  # weights sum to 100
        assert Rollout.parse(rollout.to_bytes(), "store") == rollout  # a leader that dies here is no difference
        assert len(rollout.events) - len(before.events) <= 2  # the verb's and the turn's
        assert asked or rollout.serves is Serves.STABLE
        if verb == "abort" and before.phase is not Phase.SUCCEEDED:
            assert rollout.serves is Serves.STABLE
        alone = seen.stable_serves and not seen.canary_ids
        alone_s = (alone_s or now_s) if alone else 0.0
        if alone_s and now_s - alone_s >= course.ABSENT_S and not rollout.phase.ended:
            assert rollout.serves is Serves.STABLE


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Phase)), st.booleans())
def test_every_state_is_left_by_its_deadline_even_if_nothing_is_ever_heard(phase: Phase, approval: bool) -> None:
    if phase in (Phase.SUPERSEDED, Phase.FAILED, Phase.ROLLED_BACK):
        return
    rollout, now_s = begun(approval=approval), 0.0
    if phase is Phase.PAUSED:
        rollout = steer.pause(until(rollout, "baking", 0)[0], by(20))
    elif phase is Phase.ROLLING_BACK:
        rollout = steer.abort(rollout, by(1), drain=False)
    elif phase is Phase.ASKING:
        rollout = course.ask(until(rollout, "baking", 0)[0], 20, "go on?")
    elif phase is not Phase.PREPARING and not (approval and phase is not Phase.SHIFTING and phase is not Phase.BAKING):
        rollout, now_s = until(rollout, phase.value, 0)
    silent = Seen(stable_serves=False, canary_ids=frozenset(), waiting_for=("eu-2",))
    for _ in range(12):
        if rollout.phase.ended:
            return
        now_s += course.ASK_S
        rollout = turn(rollout, silent, now_s)
    assert rollout.phase.ended, rollout.phase
