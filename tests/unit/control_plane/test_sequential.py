"""The test of two streams of calls: its guarantee, exactly where that can be counted out, else over seeded streams."""

import math
import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.sequential import EFFECTS, MARGINS, Block, Count, Record, Terms, _nearest, log_bet

TERMS = Terms(ratio=1.0, tolerance=0.002, alarm=0.002, missed=0.05, burst=1.0)
RATES = st.floats(0.0005, 0.6)
CALLS = st.integers(1, 12)
Pair = tuple[float, float]


def block(stable: tuple[int, int], canary: tuple[int, int]) -> Block:
    return Block(Count(*stable), Count(*canary))


def chance(bad: int, calls: int, rate: float) -> float:
    return math.comb(calls, bad) * rate**bad * (1 - rate) ** (calls - bad)


def mean_of_bet(stable: int, canary: int, at: Pair, guess: Pair, border: Pair, *, group: int = 1) -> float:
    """Exact mean of what a bet wins where calls fail at the given rates, in groups that share their fate."""
    mean = 0.0
    for x, y in product(range(stable + 1), range(canary + 1)):
        seen = block((x * group, stable * group), (y * group, canary * group))
        mean += chance(x, stable, at[0]) * chance(y, canary, at[1]) * math.exp(log_bet(seen, *guess, *border) / group)
    return mean


@given(CALLS, CALLS, RATES, RATES, st.sampled_from(EFFECTS), st.sampled_from([1.0, 1.5]), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_a_bet_on_a_fault_wins_nothing_on_average_wherever_there_is_none(
    stable: int, canary: int, rate: float, really: float, effect: float, ratio: float, group: int
) -> None:
    allowed = ratio * rate + 0.002
    guess = (rate, allowed + effect * (1 - allowed))
    worst = (really, ratio * really + 0.002)
    for at in (worst, (really, really), (really, really / 2), _nearest(stable, canary, *guess, ratio, 0.002)):
        if max(at) < 1 and allowed < 1:
            assert mean_of_bet(stable, canary, at, guess, (ratio, 0.002), group=group) <= 1 + 1e-6


@given(CALLS, CALLS, RATES, RATES, st.sampled_from(MARGINS))
@settings(max_examples=100, deadline=None)
def test_a_bet_against_a_difference_wins_nothing_on_average_where_there_is_one(
    stable: int, canary: int, rate: float, really: float, margin: float
) -> None:
    for more in (margin, 2 * margin):
        at = (really, really + more)
        assert mean_of_bet(stable, canary, at, (rate, rate), (1.0, margin)) <= 1 + 1e-6


@given(st.integers(1, 900), st.integers(1, 900), RATES, RATES, st.floats(0.001, 0.2), st.floats(1, 2), st.floats(0, 1))
def test_the_nearest_rates_are_on_the_border_and_no_others_there_are_nearer(
    n: int, m: int, stable: float, canary: float, tolerance: float, ratio: float, elsewhere: float
) -> None:
    def distance(a: float, b: float) -> float:
        pairs = ((n, stable, a), (m, canary, b))
        return sum(k * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) for k, p, q in pairs)

    found = _nearest(n, m, stable, canary, ratio, tolerance)
    assert found[1] == pytest.approx(ratio * found[0] + tolerance)
    other = elsewhere * (1 - tolerance) / ratio
    if other > 0 and ratio * other + tolerance < 1:
        assert distance(*found) <= distance(other, ratio * other + tolerance) + 1e-6


SMALL = st.tuples(st.integers(0, 16), st.integers(0, 4)).map(lambda bad: block((bad[0], 16), (bad[1], 4)))


@given(st.lists(SMALL, max_size=6), RATES, st.sampled_from([1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_whatever_has_been_seen_evidence_does_not_grow_on_average_where_nothing_is_wrong(
    past: list[Block], rate: float, burst: float
) -> None:
    terms, before = replace(TERMS, burst=burst), Record()
    for seen in past:
        before = before.add(seen, terms)
    held, kept = evidence(before)
    grown = [0.0] * (1 + len(MARGINS))
    for x, y in product(range(17), range(5)):
        after, now_kept = evidence(before.add(block((x, 16), (y, 4)), terms))
        good = chance(x, 16, rate) * chance(y, 4, min(1.0, rate + terms.tolerance))
        grown[0] += good * (after[0] + now_kept)
        for number, margin in enumerate(MARGINS, 1):
            grown[number] += chance(x, 16, rate) * chance(y, 4, rate + margin) * (after[number] + now_kept)
    assert all(mean <= was + kept + 1e-6 for mean, was in zip(grown, held, strict=True))


def evidence(record: Record) -> tuple[list[float], float]:
    """Evidence for a fault and against each margin, and what is kept for later."""
    return [sum(record.worse) / len(record.worse), *record.better], 1 / math.log2(record.blocks + 2)


def stream(seed: int, terms: Terms, blocks: int, excess: float, share: float = 0.2, calls: int = 100) -> list[Record]:
    """Records of a stream whose stable rate wanders between 1 % and 4 %."""
    dice, record, records = random.Random(seed), Record(), []
    n, m = round(calls * (1 - share)), round(calls * share)
    for number in range(blocks):
        rate = 0.02 * 2 ** math.sin(number / 9)
        bad = [sum(dice.random() < r for _ in range(k)) for k, r in ((n, rate), (m, rate + excess))]
        record = record.add(block((bad[0], n), (bad[1], m)), terms)
        records.append(record)
    return records


def test_at_the_edge_of_the_allowed_no_more_streams_alarm_than_stated() -> None:
    terms = replace(TERMS, alarm=0.1, tolerance=0.02)
    alarms = [stream(seed, terms, 60, terms.tolerance)[-1].peak >= 1 / terms.alarm for seed in range(120)]
    assert sum(alarms) <= 0.1 * len(alarms)


def test_at_the_edge_of_a_margin_no_more_streams_are_taken_for_well_than_stated() -> None:
    missed = [
        any(record.bound(TERMS) <= 0.05 for record in stream(seed, TERMS, 60, 0.05, calls=200)) for seed in range(60)
    ]
    assert sum(missed) <= 0.05 * len(missed)


def test_a_good_stream_is_found_to_be_well_by_ever_smaller_margins() -> None:
    bounds = [record.bound(TERMS) for record in stream(1, TERMS, 300, 0.0, share=0.5)]
    assert bounds[0] == 1
    assert bounds[-1] <= 0.02


def test_what_goes_wrong_on_both_sides_alike_is_no_evidence() -> None:
    record = Record()
    for bad in (0, 0, 5, 50, 90, 90, 50, 5):
        record = record.add(block((bad, 100), (bad // 5, 20)), TERMS)
    assert record.peak < 2


def test_a_fault_after_a_long_good_past_is_found_and_its_own_calls_are_the_proof() -> None:
    record = Record()
    for _ in range(500):
        record = record.add(block((1, 80), (0, 20)), TERMS)
    for _ in range(5):
        record = record.add(block((1, 80), (12, 20)), TERMS)
    assert record.peak >= 1 / TERMS.alarm
    assert record.proof.canary.rate > 0.4
    assert record.proof.canary.calls <= 100


def test_a_pass_is_taken_back_when_calls_go_wrong_later() -> None:
    record = Record()
    for _ in range(800):
        record = record.add(block((1, 80), (1, 80)), TERMS)
    assert record.bound(TERMS) <= 0.02
    for _ in range(4):
        record = record.add(block((1, 80), (5, 80)), TERMS)
    assert record.bound(TERMS) > 0.02


def test_a_bet_knows_nothing_of_the_block_it_is_about() -> None:
    before = Record().add(block((3, 80), (0, 20)), TERMS)
    within = before.add(block((9, 9), (9, 9)), TERMS)
    assert (within._rate, within.burst(TERMS)) == (before._rate, before.burst(TERMS))


def test_where_all_calls_go_wrong_on_stable_nothing_can_be_worse() -> None:
    record = Record()
    for _ in range(30):
        record = record.add(block((9000, 9000), (500, 500)), TERMS)
    assert record.peak == 1


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_one_block_convicts_nobody_and_acquits_nobody(stable: int, canary: int) -> None:
    for bad in (0, canary):
        record = Record().add(block((0, stable), (bad, canary)), TERMS)
        assert record.peak < 1 / TERMS.alarm
        assert record.bound(TERMS) == 1


def test_calls_of_one_side_alone_say_nothing() -> None:
    canary_only = Record().add(block((0, 0), (500, 500)), TERMS)
    stable_only = Record().add(block((500, 500), (0, 0)), TERMS)
    for record in (canary_only, stable_only):
        assert (record.peak, record.bound(TERMS), record.calls_needed(0.01, TERMS)) == (1, 1, None)


PARTS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)).map(
    lambda n: block((min(n[0], n[1]), n[1]), (min(n[2], n[3]), n[3]))
)


@given(st.lists(PARTS, min_size=1, max_size=40))
def test_within_a_block_it_does_not_matter_how_looks_split_it(parts: list[Block]) -> None:
    finely, whole, held = Record(), Record(), Block()
    for part in parts:
        finely = finely.add(part, TERMS)
        held += part
        if held.full:
            whole, held = whole.add(held, TERMS), Block()
    assert finely == whole.add(held, TERMS)


def test_stable_that_fails_in_bursts_makes_evidence_count_less() -> None:
    dice, singly, bursts = random.Random(3), Record(), Record()
    for _ in range(100):
        few = sum(dice.random() < 0.02 for _ in range(100))
        many = 10 * (dice.random() < 0.2)
        singly = singly.add(block((few, 100), (0, 10)), TERMS)
        bursts = bursts.add(block((many, 100), (0, 10)), TERMS)
    assert singly.burst(TERMS) == pytest.approx(1, abs=0.3)
    assert 7 < bursts.burst(TERMS) < 12


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, -1), (0.5, 1), (True, 1)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|whole numbers"):
        Count(*counts)
