"""Files that somebody is writing to line by line."""

from __future__ import annotations

from pathlib import Path


def whole_lines(path: Path) -> list[str]:
    """The lines that were written to their end; one that is being written comes with the next look."""
    return path.read_text().rpartition("\n")[0].splitlines()
