"""Lists each feature id with the tests that prove it; run by ``make features``.

Ids and names stand in ``docs/features.md``; tests carry them as ``@pytest.mark.feature("A4")``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

LISTED = Path(__file__).parents[1] / "docs" / "features.md"
ROW = re.compile(r"^\| ([A-G]\d+) \| (.+?) \|")


class Collector:
    """Gathers the feature marks of all tests without running them."""

    def __init__(self) -> None:
        self.proofs: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest with every collected test."""
        for item in items:
            for mark in item.iter_markers("feature"):
                for feature in mark.args:
                    self.proofs.setdefault(str(feature), []).append(item.nodeid)


def listed() -> dict[str, str]:
    """Feature names by id."""
    rows = (ROW.match(line) for line in LISTED.read_text().splitlines())
    return {row[1]: row[2] for row in rows if row}


def main() -> int:
    """Print the list; 1 if a test claims a feature that is not listed."""
    collector = Collector()
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise):
        code = pytest.main(["--collect-only", "-qq"], plugins=[collector])
    if code != pytest.ExitCode.OK:
        print(noise.getvalue(), file=sys.stderr)
        return 1
    names = listed()
    for feature, name in names.items():
        proofs = sorted({re.sub(r"\[.*", "", proof) for proof in collector.proofs.get(feature, [])})
        print(f"{feature:4} {name}: {len(proofs)} tests" if proofs else f"{feature:4} {name}: no test yet")
        for proof in proofs:
            print(f"       {proof}")
    unknown = sorted(collector.proofs.keys() - names.keys())
    if unknown:
        print(f"tests claim features that {LISTED.name} does not list: {', '.join(unknown)}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
