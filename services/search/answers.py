"""What the search tools answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.search.names import NameHit

__all__ = ["FileLines", "Files", "Line", "Matches", "Passages", "RootStatus", "Status", "TextHit"]

Outcome = Literal["complete", "no match", "timed out, partial"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Answer):
    """A line of a file."""

    number: int
    text: str
    match: Annotated[bool, Field(description="False for a line of context.")]


class FileLines(_Answer):
    """Lines of one file."""

    path: str
    lines: tuple[Line, ...]


class Matches(_Answer):
    """Result of a search by pattern."""

    outcome: Outcome
    matched: Annotated[int, Field(description="Lines that match, in all files searched.")]
    returned: int
    omitted: int
    files_matched: int
    files: tuple[FileLines, ...]
    problems: Annotated[tuple[str, ...], Field(description="What could not be searched.")]


class Files(_Answer):
    """Result of a search for names."""

    outcome: Outcome
    matched: int
    returned: int
    omitted: int
    files: Annotated[tuple[NameHit, ...], Field(description="Best first; a glob's hits all score 100.")]


class TextHit(_Answer):
    """A passage that answers a query."""

    path: str
    first_line: int
    last_line: int
    text: str
    score: Annotated[float, Field(description="Comparable within one answer only.")]


class Passages(_Answer):
    """Result of a ranked search."""

    outcome: Outcome
    layers: Annotated[
        tuple[str, ...],
        Field(
            description="What answered: 'index' ranks passages; 'ripgrep', while there is none, counts words in lines."
        ),
    ]
    matched: int
    returned: int
    omitted: int
    hits: tuple[TextHit, ...]


class RootStatus(_Answer):
    """The index of one root."""

    path: str
    state: str
    files: int
    chunks: int
    to_do: int
    skipped: int
    age_s: float | None
    problem: str


class Status(_Answer):
    """What is searched, and what has been indexed of it."""

    ripgrep: str
    roots: tuple[RootStatus, ...]
