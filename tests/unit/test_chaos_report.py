"""The table of a chaos run: each fault once, pairs apart, whatever their names hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.chaos
from tests.chaos import container_faults
from tests.chaos.faults import FAULTS
from tests.chaos.report import Row, document, line

PAGE = Path(tests.chaos.__file__).with_name("reliability.md.tmpl")

FLAPPING = next(fault for fault in FAULTS if " and " in fault.name)


def test_a_fault_whose_name_has_an_and_is_no_pair() -> None:
    rows = [Row(FLAPPING.name, 1, calls=10, recovered=True), Row("this and that", 1, pair=True, calls=5)]
    single, pairs = document(rows, FAULTS, PAGE).split("In pairs, chosen by the seed:")
    assert FLAPPING.name in single
    assert FLAPPING.name not in pairs
    assert "this and that" in pairs


def test_seeds_of_one_fault_are_one_row_with_its_worst() -> None:
    rows = [
        Row(FLAPPING.name, seed, calls=10, gap_s=seed, recovered_s=2 * seed, bound_s=30, recovered=True)
        for seed in (1, 2, 3)
    ]
    assert "| 30 | 0 | 3.0 s | 6.0 s (≤ 30 s) | 0 |" in document(rows, FAULTS, PAGE)


def test_a_broken_promise_is_told_in_full_up_to_three() -> None:
    said = line(Row("a fault", 1, broken=tuple(f"promise {number}" for number in range(5))))
    assert said.startswith("FAIL")
    assert "promise 2" in said
    assert "promise 3" not in said
    assert "and 2 more" in said


@pytest.mark.parametrize("names", [[one.name for one in FAULTS], [one.name for one in container_faults.FAULTS]])
def test_no_two_faults_have_one_name(names: list[str]) -> None:
    assert len(set(names)) == len(names)
