"""The table of all metrics in docs/contracts.md names each once."""

from __future__ import annotations

from collections import Counter

from tests.support.documented import table


def test_every_metric_stands_in_the_table_once_and_with_all_that_is_said_of_it() -> None:
    rows = table()
    assert len(rows) > 50
    assert [name for name, count in Counter(row.name for row in rows).items() if count > 1] == []
    assert [row.name for row in rows if not (row.kind and row.who and (row.unit or "*" in row.name))] == []


def test_a_counter_says_that_it_is_one() -> None:
    assert [row.name for row in table() if (row.kind == "counter") != row.name.endswith("_total")] == []
