"""What the filesystem tools take and answer: facts. A file's text is sent once, as content beside them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.filesystem.edits import Edit
from services.filesystem.listing import Entry, Kind

__all__ = [
    "Changed",
    "Deleted",
    "EditArgument",
    "Edited",
    "Files",
    "Folder",
    "Moved",
    "PathFacts",
    "ReadLines",
    "RootList",
]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EditArgument(BaseModel):
    """One replacement in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old_text: Annotated[str, Field(description="Exact text that stands in the file once; add lines to make it unique.")]
    new_text: Annotated[str, Field(description="What to put in its place.")]

    def edit(self) -> Edit:
        """The same, for the core."""
        return Edit(self.old_text, self.new_text)


class ReadLines(_Answer):
    """Which lines were read; the text is the content."""

    path: str
    first_line: int
    lines: int
    next_offset: Annotated[int | None, Field(description="Offset of the lines that follow; null at the end.")]
    total_lines: Annotated[int | None, Field(description="Null when the file is too long to count.")]
    size_bytes: int
    line_ending: str
    note: str


class Changed(_Answer):
    """A file was written."""

    path: str
    created: bool
    size_bytes: int


class Edited(_Answer):
    """A file was edited, or would have been; the diff is the content."""

    path: str
    applied: bool
    diff_truncated: bool


class Folder(_Answer):
    """A page of a folder."""

    path: str
    entries: tuple[Entry, ...]
    total: int
    next_after: Annotated[str | None, Field(description="Pass as `after` for the next page; null on the last.")]


class Files(_Answer):
    """Paths that match a glob, relative to `path`."""

    path: str
    matches: tuple[str, ...]
    matched: int
    returned: int
    omitted: int
    complete: Annotated[bool, Field(description="False when the tree was too large to look at all of it.")]


class PathFacts(_Answer):
    """What stands at a path."""

    path: str
    kind: Kind
    size_bytes: int
    mode: str
    modified: Annotated[str, Field(description="ISO 8601, UTC.")]
    links_to: str | None


class Moved(_Answer):
    """Something was moved."""

    source: str
    target: str


class Deleted(_Answer):
    """Something was deleted."""

    path: str
    kind: str


class RootList(_Answer):
    """The folders the caller may use."""

    roots: tuple[str, ...]
