"""Verdicts on a canary, from looks made up by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from control_plane.analysis import Judgement, State, Verdict, advance, begin, judge, replay
from control_plane.checks import Plan, RangeCheck, RateCheck, default_checks
from control_plane.readings import Counts, Durations, Look, Missing, Reading, Value
from control_plane.sequential import Count

ERRORS = RateCheck("tool_errors", "tool errors")
PLAN = Plan("1.2.0", "1.3.0", (ERRORS,))
SEVERITY = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]


def errors(stable: tuple[int, int], canary: tuple[int, int]) -> dict[str, Reading]:
    return {"tool_errors": Counts(Count(*stable), Count(*canary))}


def growing(looks: int, stable: tuple[int, int], canary: tuple[int, int]) -> list[dict[str, Reading]]:
    """Looks at counters that grow by the same at each."""
    return [errors((stable[0] * n, stable[1] * n), (canary[0] * n, canary[1] * n)) for n in range(1, looks + 1)]


def last(plan: Plan, looks: Sequence[Look], baseline: Mapping[str, Reading] | None = None) -> Judgement:
    return list(replay(plan, looks, baseline))[-1]


@pytest.mark.feature("C4")
def test_a_canary_that_errs_more_fails_with_one_sentence_for_the_operator() -> None:
    said = last(PLAN, growing(4, (1, 450), (3, 50)))
    assert said.verdict is Verdict.FAIL
    assert said.sentence.startswith(
        "tool errors 12 of 200 (6 %) on 1.3.0 against 4 of 1,800 (0.22 %) on 1.2.0: more than 0.2 points worse;"
        " at most one good version in "
    )


def test_what_is_allowed_may_be_a_multiple_of_stables_rate() -> None:
    plan = replace(PLAN, checks=(replace(ERRORS, ratio=3.0),))
    assert last(plan, growing(40, (9, 450), (2, 50))).verdict is not Verdict.FAIL
    assert "more than 3 times as bad and 0.2 points worse" in last(plan, growing(40, (9, 450), (10, 50))).sentence


@pytest.mark.feature("C4")
def test_a_canary_as_good_as_stable_passes_with_what_is_ruled_out() -> None:
    said = last(PLAN, growing(30, (0, 450), (0, 50)))
    assert (said.verdict, said.sentence) == (Verdict.PASS, "1.3.0 does as well as 1.2.0 in every check (1)")
    assert said.findings[0].sentence == (
        "tool errors 0 of 1,500 on 1.3.0 against 0 of 13,500 on 1.2.0: surely less than 1 point worse"
    )


def test_a_step_may_be_content_with_a_wider_margin() -> None:
    state = begin(PLAN)
    for look in growing(4, (0, 450), (0, 50)):
        state = advance(PLAN, state, look)
    assert judge(PLAN, state).verdict is Verdict.INCONCLUSIVE
    assert judge(PLAN, state, margin=0.05).verdict is Verdict.PASS


def test_few_calls_are_inconclusive_and_it_says_how_many_more_are_needed() -> None:
    assert last(PLAN, growing(1, (0, 95), (5, 5))).sentence == (
        "tool errors 5 of 5 (100 %) on 1.3.0 against 0 of 95 on 1.2.0: too few calls, at least 10 are needed on each"
    )
    said = last(PLAN, growing(4, (0, 95), (0, 5)))
    needed = said.findings[0].evidence.calls_needed if said.findings[0].evidence else None
    assert said.verdict is Verdict.INCONCLUSIVE
    assert said.sentence.endswith(f"about {needed} more calls to 1.3.0 are needed to tell whether it is 1 point worse")
    assert needed is not None
    enough = last(PLAN, growing(4 + math.ceil(needed / 5), (0, 95), (0, 5)))
    assert enough.verdict is Verdict.PASS


@pytest.mark.parametrize("calls", [(0, 0), (0, 500), (500, 0)])
def test_without_calls_on_both_sides_there_is_no_verdict(calls: tuple[int, int]) -> None:
    assert judge(PLAN, begin(PLAN)).verdict is Verdict.INCONCLUSIVE
    assert last(PLAN, growing(20, (0, calls[0]), (0, calls[1]))).verdict is Verdict.INCONCLUSIVE


def test_the_hard_limit_fails_at_the_look_that_shows_it() -> None:
    said = last(PLAN, growing(1, (1, 450), (60, 70)))
    assert said.verdict is Verdict.FAIL
    assert said.sentence == (
        "tool errors 60 of 70 (86 %) on 1.3.0 against 1 of 450 (0.22 %) on 1.2.0: over the hard limit of 50 %"
    )


def test_the_hard_limit_holds_without_stable_calls() -> None:
    assert last(PLAN, growing(1, (0, 0), (60, 70))).verdict is Verdict.FAIL


def test_the_hard_limit_sees_late_faults_by_the_latest_calls_alone() -> None:
    good = growing(50, (1, 100), (0, 100))
    broken = errors((51, 5100), (90, 5100))
    assert last(PLAN, [*good, broken]).verdict is Verdict.FAIL


def test_what_fails_on_both_sides_is_not_the_canarys_fault() -> None:
    assert last(PLAN, growing(40, (60, 100), (60, 100))).verdict is not Verdict.FAIL


def test_a_hard_limit_can_be_left_out() -> None:
    plan = replace(PLAN, checks=(replace(ERRORS, hard_limit=None),))
    assert last(plan, growing(1, (1, 450), (60, 70))).verdict is Verdict.INCONCLUSIVE


def test_a_metrics_source_that_says_nothing_is_an_error_and_no_more() -> None:
    good = growing(2, (0, 95), (0, 5))
    silent: list[Look] = [Missing("Prometheus did not answer")] * 500
    said = last(PLAN, good + silent)
    assert said.verdict is Verdict.ERROR
    assert said.sentence == "tool errors not known: Prometheus did not answer"
    assert last(PLAN, [{"tool_errors": Missing("stale by 40 s")}]).verdict is Verdict.ERROR
    assert last(PLAN, [{}]).sentence == "tool errors not known: the metrics source had nothing on it"


def test_after_a_gap_the_verdict_is_about_the_calls_of_the_gap_too() -> None:
    looks = growing(30, (0, 450), (0, 50))
    away: list[Look] = [Missing("away")] * 10
    gap: list[Look] = [*looks[:10], *away, *looks[20:]]
    assert last(PLAN, gap).verdict is Verdict.PASS
    evidence = last(PLAN, gap).findings[0].evidence
    assert evidence is not None
    assert evidence.calls.canary.calls == 50 * 30


def test_an_error_takes_no_fail_back() -> None:
    looks: list[Look] = [*growing(1, (1, 450), (60, 70)), Missing("away")]
    assert last(PLAN, looks).verdict is Verdict.FAIL


def test_a_counter_that_goes_back_is_an_error_at_that_look_alone() -> None:
    looks = growing(5, (1, 100), (0, 100))
    restarted = [*looks, errors((505, 505), (2, 7)), errors((506, 605), (2, 107))]
    said = list(replay(PLAN, restarted))
    assert [one.verdict for one in said[-2:]] == [Verdict.ERROR, Verdict.INCONCLUSIVE]
    assert "a counter went back, as after a restart; counting goes on from here" in said[-2].sentence
    evidence = said[-1].findings[0].evidence
    assert evidence is not None
    assert evidence.calls.canary == Count(0, 600)


def test_readings_count_from_the_baseline() -> None:
    baseline = errors((900, 1000), (900, 1000))
    looks: list[Look] = [errors((900, 1000 + 450 * n), (900, 1000 + 50 * n)) for n in range(1, 31)]
    assert last(PLAN, looks, baseline).verdict is Verdict.PASS


def test_what_was_missing_at_the_start_counts_from_its_first_reading() -> None:
    """As of a version that is tried again: its calls of the time before are told with those of its new instance."""
    baseline = {"tool_errors": Missing("Prometheus scrapes no instance of 1.3.0")}
    before, then = errors((0, 1000), (900, 1000)), errors((0, 1450), (900, 1050))
    assert last(PLAN, [before], baseline).verdict is Verdict.INCONCLUSIVE
    evidence = last(PLAN, [before, then], baseline).findings[0].evidence
    assert evidence is not None
    assert (evidence.calls.stable, evidence.calls.canary) == (Count(0, 450), Count(0, 50))


def test_a_slow_canary_fails_by_the_share_of_its_calls_above_stables_p95() -> None:
    plan = Plan("1.2.0", "1.3.0", default_checks(["search_query"])[4:5])
    edges = (0.1, 0.25, 0.5)

    def look(n: int) -> dict[str, Reading]:
        return {"latency": Durations(edges, (80 * n, 97 * n, 100 * n, 100 * n), (2 * n, 6 * n, 9 * n, 10 * n))}

    said = last(plan, [look(n) for n in range(2, 40)], look(1))
    assert said.verdict is Verdict.FAIL
    assert said.sentence.startswith("slow calls (over 0.25 s) ")
    assert last(plan, [*(look(n) for n in range(2, 40)), look(1)], look(1)).sentence == said.sentence


def test_dry_run_is_reported_and_counts_for_nothing() -> None:
    plan = replace(PLAN, checks=(replace(ERRORS, name="trial", dry_run=True), ERRORS))
    looks = [{**look, "trial": Counts(Count(0, 450), Count(50, 50))} for look in growing(30, (0, 450), (0, 50))]
    looks[-1]["trial"] = Counts(Count(0, 450), Count(100, 100))
    said = last(plan, looks)
    assert said.verdict is Verdict.PASS
    assert [(one.name, one.verdict, one.dry_run) for one in said.findings] == [
        ("trial", Verdict.FAIL, True),
        ("tool_errors", Verdict.PASS, False),
    ]


QUEUE = RangeCheck("queue", "queue length", high=100, failures=3)


@pytest.mark.parametrize(
    ("values", "verdict", "sentence"),
    [
        ([], Verdict.INCONCLUSIVE, "queue length not known yet"),
        ([7], Verdict.PASS, "queue length 7: at most 100"),
        ([7, 101, 200], Verdict.INCONCLUSIVE, "queue length 200: 2 of 3 times not at most 100"),
        ([101, 102, 7, 103], Verdict.INCONCLUSIVE, "queue length 103: 1 of 3 times not at most 100"),
        ([101, 102, 103], Verdict.FAIL, "queue length 103: was 3 times in a row not at most 100"),
        ([101, 102, 103, 7], Verdict.FAIL, "queue length 7: was 3 times in a row not at most 100"),
        ([101, 102, None, 103], Verdict.FAIL, "queue length 103: was 3 times in a row not at most 100"),
        ([101, None, None, None], Verdict.ERROR, "queue length not known: away"),
        ([math.nan], Verdict.ERROR, "queue length not known: the value was not a number"),
        ([math.inf] * 3, Verdict.FAIL, "queue length inf: was 3 times in a row not at most 100"),
    ],
)
def test_a_custom_value_fails_after_so_many_times_in_a_row(
    values: list[float | None], verdict: Verdict, sentence: str
) -> None:
    plan, state = Plan("1", "2", (QUEUE,)), begin(Plan("1", "2", (QUEUE,)))
    for value in values:
        state = advance(plan, state, {"queue": Missing("away") if value is None else Value(value)})
    assert judge(plan, state).verdict is verdict
    assert judge(plan, state).findings[0].sentence == sentence


@pytest.mark.parametrize(
    ("verdicts", "whole"), [("pass fail error", "fail"), ("pass error few", "error"), ("pass few", "inconclusive")]
)
def test_of_several_checks_the_gravest_decides(verdicts: str, whole: str) -> None:
    given: dict[str, Reading] = {"pass": Value(1), "fail": Value(9), "error": Missing("away")}
    checks = tuple(RangeCheck(name, name, high=5, failures=2 if name == "few" else 1) for name in verdicts.split())
    said = last(Plan("1", "2", checks), [{name: given.get(name, Value(9)) for name in verdicts.split()}])
    assert said.verdict == whole


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        ({"tool_error": Value(1)}, "no check is named tool_error"),
        ({"tool_errors": Value(1)}, "check tool_errors cannot be judged by Value"),
    ],
)
def test_readings_that_fit_no_check_are_refused(reading: dict[str, Reading], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        advance(PLAN, begin(PLAN), reading)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tolerance": -0.1}, "tolerance must be a share"),
        ({"tolerance": math.nan}, "tolerance must be a share"),
        ({"ratio": 0.5}, "ratio must be 1 or more"),
        ({"margin": 0.03}, "margin must be one of 0.01, 0.02, 0.05, 0.1"),
        ({"hard_limit": 0}, "hard_limit must be a share"),
        ({"min_calls": 0}, "min_calls and hard_calls must be 1 or more"),
    ],
)
def test_a_rate_check_that_makes_no_sense_is_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"check tool_errors: .*{said}"):
        replace(ERRORS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checks": ()}, "at least one that counts: none"),
        ({"checks": (ERRORS, ERRORS)}, "different names"),
        ({"checks": (replace(ERRORS, dry_run=True),)}, "at least one that counts"),
        ({"false_alarm": 0}, "must lie between 0 and 1"),
        ({"missed": 1}, "must lie between 0 and 1"),
        ({"burst": 0.5}, "burst must be 1 or more"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(PLAN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"low": 2.0, "high": 1.0}, {"failures": 0}, {"low": math.nan}])
def test_a_range_check_that_makes_no_sense_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="low must not be above high, and failures"):
        replace(QUEUE, **limits)  # type: ignore[arg-type]


def test_the_default_checks_look_at_all_calls_and_at_each_named_tool() -> None:
    overall = ["http_5xx", "tool_errors", "deadline", "schema", "latency"]
    assert [check.name for check in default_checks()] == overall
    assert [check.name for check in default_checks(["search_query"])] == [
        *overall, "tool_errors:search_query", "latency:search_query"
    ]  # fmt: skip


def test_the_checks_that_count_share_the_false_alarms() -> None:
    plan = Plan("1", "2", (*default_checks(["a", "b"]), QUEUE, replace(ERRORS, name="trial", dry_run=True)))
    assert plan.terms(ERRORS).alarm == pytest.approx(0.01 / 9)


SIDE = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)
LOOKS = st.lists(st.tuples(SIDE, SIDE, st.integers(0, 40)), min_size=1, max_size=25)


@given(LOOKS)
@settings(deadline=None)
def test_more_that_goes_wrong_on_the_canary_makes_no_verdict_milder(
    looks: list[tuple[list[int], list[int], int]],
) -> None:
    good, bad = [(0, 0, 0, 0)], [(0, 0, 0, 0)]
    for stable, canary, more in looks:
        for rows, wrong in ((good, canary[0]), (bad, min(canary[0] + more, canary[1]))):
            grown = zip(rows[-1], (*stable, wrong, canary[1]), strict=True)
            rows.append(tuple(a + b for a, b in grown))  # type: ignore[arg-type]
    mild, grave = ([errors(row[:2], row[2:]) for row in rows[1:]] for rows in (good, bad))
    for one, other in zip(replay(PLAN, mild, margin=0.1), replay(PLAN, grave, margin=0.1), strict=True):
        assert SEVERITY.index(one.verdict) <= SEVERITY.index(other.verdict)


@given(LOOKS)
@settings(deadline=None, max_examples=30)
def test_looks_without_calls_change_nothing(looks: list[tuple[list[int], list[int], int]]) -> None:
    rows, total = [], (0, 0, 0, 0)
    for stable, canary, _ in looks:
        total = (total[0] + stable[0], total[1] + stable[1], total[2] + canary[0], total[3] + canary[1])
        rows.append(errors(total[:2], total[2:]))
    once, thrice = list(replay(PLAN, rows)), list(replay(PLAN, [row for row in rows for _ in range(3)]))
    assert once == thrice[2::3]


@given(LOOKS, st.integers(0, 25))
@settings(deadline=None, max_examples=30)
def test_a_state_that_was_stored_goes_on_as_if_nothing_had_happened(
    looks: list[tuple[list[int], list[int], int]], stored_at: int
) -> None:
    plan = replace(PLAN, checks=(ERRORS, QUEUE, *default_checks()[4:]))
    adapter = TypeAdapter(State)
    straight = stored = begin(plan)
    stable = canary = Count()
    for number, (one, two, value) in enumerate(looks):
        stable, canary = stable + Count(*one), canary + Count(*two)
        slow = Durations((0.5,), (stable.bad, stable.calls), (canary.bad, canary.calls))
        look: dict[str, Reading] = {"tool_errors": Counts(stable, canary), "queue": Value(value * 5), "latency": slow}
        if number == stored_at:
            stored = adapter.validate_json(adapter.dump_json(stored))
        straight, stored = advance(plan, straight, look), advance(plan, stored, look)
    assert stored == straight
    assert judge(plan, stored) == judge(plan, straight)


def test_a_check_that_is_new_in_a_plan_starts_afresh() -> None:
    state = advance(PLAN, begin(PLAN), errors((0, 10), (0, 10)))
    wider = replace(PLAN, checks=(ERRORS, QUEUE))
    later = advance(wider, state, {**errors((0, 20), (0, 20)), "queue": Value(1)})
    assert set(later.checks) == {"tool_errors", "queue"}
