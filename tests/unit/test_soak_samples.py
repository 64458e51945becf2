"""What grows is told from what only wavers."""

from __future__ import annotations

import random

import pytest

from tests.soak.samples import Sample, growth, not_flat


def samples(memory: list[float]) -> list[Sample]:
    return [Sample(5.0 * at, value, 30, 1) for at, value in enumerate(memory)]


def test_a_leak_is_named_and_a_flat_line_with_noise_is_not() -> None:
    noise = random.Random(1)
    flat = [100 + noise.uniform(-8, 8) for _ in range(120)]
    assert not not_flat("hub", samples(flat))
    (said,) = not_flat("hub", samples([value + at * 0.4 for at, value in enumerate(flat)]))
    assert said.startswith("hub: memory_mib grows by")


def test_what_a_warm_up_takes_is_no_leak() -> None:
    assert not not_flat("hub", samples([min(100.0, 20.0 + 4 * at) for at in range(120)]))


def test_growth_is_of_the_whole_length_and_single_peaks_do_not_count() -> None:
    points = [(float(at), 2.0 * at + (500 if at == 40 else 0)) for at in range(100)]
    added, usual = growth(points)
    assert added == pytest.approx(198, rel=0.02)
    assert usual == pytest.approx(99, abs=3)
    assert growth([(1.0, 1.0)]) == (0.0, 0.0)
