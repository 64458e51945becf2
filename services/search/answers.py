"""What the search tools answer: facts. The text of lines and snippets is sent once, as content beside them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.search.names import NameHit

__all__ = [
    "Definitions",
    "FileLines",
    "Files",
    "Line",
    "Matches",
    "Outcome",
    "Page",
    "Passages",
    "Refreshed",
    "RootStatus",
    "Skipped",
    "Status",
    "SymbolHit",
    "TextHit",
    "Uses",
    "UsesHit",
]

Outcome = Literal["complete", "no match", "timed out, partial"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Page(_Answer):
    """What every answer that can be long says of itself."""

    outcome: Outcome
    layers: Annotated[tuple[str, ...], Field(description="What answered.")]
    matched: Annotated[int, Field(description="All there is; matched = returned + omitted.")]
    returned: int
    omitted: int
    cursor: Annotated[str, Field(description="Pass it, with the same arguments, for what follows; empty at the end.")]


class Line(_Answer):
    """A line of a file; its text is in the content."""

    number: int
    match: Annotated[bool, Field(description="False for a line of context.")]
    last_number: Annotated[int | None, Field(description="Where a match over several lines ends.")] = None


class FileLines(_Answer):
    """What a file has of a pattern."""

    path: str
    matches: Annotated[int, Field(description="Matching lines shown; with mode 'counts' all occurrences.")]
    lines: tuple[Line, ...] = ()


class Matches(Page):
    """Result of a search by pattern. Counts are of matching lines, with 'files' of files, with 'counts' of occurrences;
    with multiline of matches."""

    files_matched: int
    files: tuple[FileLines, ...]
    problems: Annotated[tuple[str, ...], Field(description="What could not be searched.")]


class Files(Page):
    """Result of a search for names."""

    files: Annotated[tuple[NameHit, ...], Field(description="Best first; a glob's hits all score 100.")]


class TextHit(_Answer):
    """A passage; its text is in the content."""

    path: str
    first_line: int
    last_line: int
    part_first_line: Annotated[int, Field(description="Where the part of the file begins that was ranked.")]
    part_last_line: int
    score: Annotated[float, Field(description="Comparable within one answer only.")]


class Passages(Page):
    """Result of a ranked search."""

    hits: tuple[TextHit, ...]


class SymbolHit(_Answer):
    """A definition."""

    path: str
    name: str
    kind: str
    container: Annotated[str, Field(description="Names of the definitions around it, outermost first.")]
    first_line: int
    last_line: int
    score: float


class Definitions(Page):
    """Definitions, sorted by path and line, or best first."""

    symbols: tuple[SymbolHit, ...]
    unread: Annotated[int, Field(description="Files with the name that no grammar here can read.")]


class UsesHit(_Answer):
    """A line that uses a name; its text is in the content."""

    path: str
    first_line: int
    last_line: int
    within: Annotated[str, Field(description="The definition around it.")]
    score: Annotated[float, Field(description="1 where a grammar says that it is code, 0.5 where none can say.")]


class Uses(Page):
    """Uses of a name, sorted by path and line."""

    uses: tuple[UsesHit, ...]
    unread: Annotated[int, Field(description="Files with the name that no grammar here can read.")]


class Skipped(_Answer):
    """Files that are not in the index, for one reason."""

    why: str
    files: int
    examples: tuple[str, ...]


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
    skipped_why: tuple[Skipped, ...] = ()
    embedded: Annotated[int, Field(description="Passages that have been embedded.")] = 0
    watched: Annotated[bool, Field(description="False: every query compares all files instead.")] = False
    index_bytes: int = 0


class Status(_Answer):
    """What is searched, and what has been indexed of it."""

    ripgrep: str
    embeddings: Annotated[str, Field(description="The model, or why there is none.")]
    languages: tuple[str, ...]
    roots: tuple[RootStatus, ...]


class Refreshed(_Answer):
    """The indexes were compared with the files."""

    complete: Annotated[bool, Field(description="False: it goes on in the background.")]
    roots: tuple[RootStatus, ...]
