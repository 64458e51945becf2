"""Writes the pages of docs/reference anew: ``make reference``."""

from __future__ import annotations

from tests.reference import PAGES
from tests.support.programs import ROOT


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        file = ROOT / "docs" / "reference" / f"{name}.md"
        file.write_text(page(), encoding="utf-8")
        print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
