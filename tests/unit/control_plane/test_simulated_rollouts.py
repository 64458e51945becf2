"""Seeded rollouts under noise through the real analysis: good ones go on, broken ones do not."""

from itertools import product

import pytest

from control_plane.analysis import Verdict
from tests.support.rollouts import CALLS_PER_S, Fault, Noise, Outcome, rollout


def good_rollouts(count: int) -> list[Outcome]:
    """The same as `make bench` counts."""
    kinds = list(product(Noise, CALLS_PER_S))
    return [rollout(seed, calls, noise) for seed in range(count) for noise, calls in [kinds[seed % len(kinds)]]]


@pytest.mark.feature("C4")
def test_of_some_good_rollouts_under_noise_none_is_rolled_back() -> None:
    failed = [one.said.sentence for one in good_rollouts(54) if one.failed]
    assert not failed


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.feature("C4")
def test_of_10_000_good_rollouts_under_noise_at_most_1_percent_are_rolled_back() -> None:
    failed = [one.said.sentence for one in good_rollouts(10_000) if one.failed]
    assert len(failed) <= 100, failed[:10]


@pytest.mark.feature("C4")
@pytest.mark.parametrize("noise", Noise)
def test_a_canary_that_breaks_one_call_in_five_is_found_within_200_of_its_calls(noise: Noise) -> None:
    for seed in range(5):
        found = rollout(seed, 10, noise, Fault("tool_errors", 0.2))
        assert found.failed
        assert "tool errors" in found.said.sentence
        assert found.canary_calls <= 200


def test_a_canary_that_begins_to_fail_every_call_late_is_found_within_15_s() -> None:
    for seed in range(5):
        found = rollout(seed, 100, Noise.SINGLE, Fault("http_5xx", 1.0, from_s=90))
        assert found.failed
        assert found.seconds <= 15


def test_a_slow_canary_is_found() -> None:
    found = rollout(1, 10, Noise.SINGLE, Fault("latency", 0.5))
    assert found.failed
    assert found.said.sentence.startswith("slow calls (over 0.25 s)")


def test_a_good_canary_with_traffic_enough_is_promoted_without_anybody() -> None:
    assert [rollout(seed, 100, Noise.SINGLE).said.verdict for seed in range(3)] == [Verdict.PASS] * 3


def test_a_good_canary_with_one_call_per_second_is_not_promoted_on_faith() -> None:
    assert rollout(1, 1, Noise.SINGLE).said.verdict is Verdict.INCONCLUSIVE
