"""Tables and headings of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MADE = "<!-- Made from the code by `make reference`; a test holds it against the code. -->"


def heading(title: str, *paragraphs: str) -> list[str]:
    """The beginning of a page, as lines."""
    return [f"# {title}", "", MADE, "", *(line for one in paragraphs for line in (one, ""))]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, as lines; what would end a cell is written so that it does not."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines), ""]


def code(text: str) -> str:
    """A text as code; nothing of nothing."""
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
