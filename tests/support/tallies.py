"""What is counted by everybody now, and what came anew since: value by metric and labels."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

Source = tuple[str, str, str]
"""Who counts, in which version, and where it shows its metrics."""
Series = tuple[str, str, str, frozenset[tuple[str, str]]]


class Tallies:
    """What is shown now.

    Args:
        sources: Whom to ask; those of one name and version are added up.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._values: dict[Series, float] = {}
        for source in sources:
            self._read(*source)

    def _read(self, who: str, version: str, url: str) -> None:
        text = httpx.get(url, trust_env=False, timeout=10).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = who, version, sample.name, frozenset(sample.labels.items())
                self._values[series] = self._values.get(series, 0) + sample.value

    def since(self, before: Tallies) -> Tallies:
        """What came anew."""
        made = Tallies(())
        made._values = {series: value - before._values.get(series, 0) for series, value in self._values.items()}
        return made

    def sum(self, who: str, name: str, version: str = "", **labels: str) -> int:
        """Of all series with these labels; a label "~" is any value but none."""
        total = 0.0
        for (whose, of, metric, had), value in self._values.items():
            given = dict(had)
            fits = all(
                given.get(label) == wanted or (wanted == "~" and given.get(label)) for label, wanted in labels.items()
            )
            if whose == who and metric == name and fits and version in ("", of):
                total += value
        return round(total)
