"""What the tools take and answer: facts. Text, of files and of lists, is sent once, as content beside them."""

from collections.abc import Sequence
from typing import Annotated

from mcp_types import CallToolResult, ContentBlock, TextContent
from pydantic import BaseModel, ConfigDict, Field

from services.filesystem.edits import Edit
from services.filesystem.listing import Kind

__all__ = [
    "Changed",
    "Copied",
    "Deleted",
    "EditArgument",
    "Edited",
    "EditedFile",
    "EditedFiles",
    "Emptied",
    "FileArgument",
    "Files",
    "Folder",
    "MadeFolder",
    "Moved",
    "PathFacts",
    "ReadBytes",
    "ReadFile",
    "ReadLines",
    "ReadMany",
    "Restored",
    "RootFacts",
    "RootList",
    "SearchFacts",
    "TextTree",
    "TrashList",
    "TrashedEntry",
    "TreeSize",
    "answer",
]

NEXT_AFTER = Field(description="Pass as `after` for the next page; null on the last.")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


def answer(facts: BaseModel, text: str, note: str = "", *, blocks: Sequence[ContentBlock] = ()) -> CallToolResult:
    """A result: its text once, then what the reader must know, then other content; the facts beside them."""
    content: list[ContentBlock] = [TextContent(type="text", text=text)] if text or not (note or blocks) else []
    if note:
        content.append(TextContent(type="text", text=f"[{note}]"))
    return CallToolResult(content=[*content, *blocks], structured_content=facts.model_dump(mode="json"))


class EditArgument(BaseModel):
    """One replacement in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old_text: Annotated[str, Field(description="Exact text that stands in the file once; add lines to make it unique.")]
    new_text: Annotated[str, Field(description="What to put in its place.")]
    replace_all: Annotated[bool, Field(description="Replace it wherever it stands, instead of exactly once.")] = False

    def edit(self) -> Edit:
        """The same, for the core."""
        return Edit(self.old_text, self.new_text, self.replace_all)


class FileArgument(BaseModel):
    """The edits of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(description="Absolute, or relative where there is one root.")]
    edits: Annotated[list[EditArgument], Field(min_length=1, max_length=100)]
    expected_sha256: str | None = None


class ReadLines(_Answer):
    """Which lines were read; the text is the content. Of a file that is not text: what it is, and no lines."""

    path: str
    first_line: Annotated[int | None, Field(description="Null when the file is too long to count.")]
    lines: int
    next_offset: Annotated[int | None, Field(description="Offset of the lines that follow; null at the end.")]
    total_lines: Annotated[int | None, Field(description="Null when the file is too long to count.")]
    size_bytes: int
    line_ending: str
    note: str
    encoding: str = "utf-8"
    sha256: Annotated[str | None, Field(description="Of the whole file when all of it was read, else null.")] = None
    kind: Annotated[str, Field(description="text, image, audio or binary.")] = "text"
    mime_type: str = "text/plain"


class ReadFile(_Answer):
    """One of several files."""

    path: str
    lines: int = 0
    next_offset: int | None = None
    total_lines: int | None = None
    error: str = ""


class ReadMany(_Answer):
    """Which lines of which files were read; the text is the content."""

    files: tuple[ReadFile, ...]
    failed: int
    not_reached: Annotated[tuple[str, ...], Field(description="Paths for which the answer had no room left.")]


class ReadBytes(_Answer):
    """Which bytes were read; they are the content."""

    path: str
    offset: int
    length: int
    next_offset: int | None
    size_bytes: int
    form: Annotated[str, Field(description="text or base64.")]


class Changed(_Answer):
    """A file was written."""

    path: str
    created: bool
    size_bytes: int
    kept: Annotated[tuple[str, ...], Field(description="What it keeps of the file it replaces, such as CRLF.")] = ()


class Edited(_Answer):
    """A file was edited, or would have been; the diff is the content."""

    path: str
    applied: bool
    diff_truncated: bool


class EditedFile(_Answer):
    """One of several files."""

    path: str
    added: int
    removed: int


class EditedFiles(_Answer):
    """All of the files were edited, or would have been; the diff is the content."""

    applied: bool
    diff_truncated: bool
    files: tuple[EditedFile, ...]


class Folder(_Answer):
    """A page of a folder; its lines are the content."""

    path: str
    total: int
    returned: int
    next_after: Annotated[str | None, NEXT_AFTER]


class Files(_Answer):
    """How many paths match a glob; they are the content, relative to `path`, a line each."""

    path: str
    matched: int
    returned: int
    omitted: Annotated[int, Field(description="Those of other pages.")]
    complete: Annotated[bool, Field(description="False when the tree was too large to look at all of it.")]
    next_after: Annotated[str | None, NEXT_AFTER]


class TextTree(_Answer):
    """A part of a tree; its lines are the content."""

    path: str
    returned: int
    next_after: Annotated[str | None, NEXT_AFTER]
    complete: Annotated[bool, Field(description="False when the tree was too large to look at all of it.")]


class TreeSize(_Answer):
    """What a folder holds."""

    path: str
    size_bytes: int
    disk_bytes: int
    files: int
    folders: int
    others: Annotated[int, Field(description="Links, and what is neither file, folder nor link.")]
    complete: bool


class PathFacts(_Answer):
    """What stands at a path."""

    path: str
    kind: Kind
    size_bytes: int
    mode: str
    modified: Annotated[str, Field(description="ISO 8601, UTC.")]
    links_to: str | None
    owner: int
    group: int
    names: Annotated[int, Field(description="How many names it has (hard links).")]
    sha256: str | None
    writable: Annotated[bool, Field(description="Whether its root may be changed.")]


class Moved(_Answer):
    """Something was moved."""

    source: str
    target: str


class Copied(_Answer):
    """Something was copied."""

    source: str
    target: str
    kind: str
    files: int
    size_bytes: int


class MadeFolder(_Answer):
    """A folder is there."""

    path: str
    created: bool


class Deleted(_Answer):
    """Something was deleted."""

    path: str
    kind: str
    trash_id: Annotated[str | None, Field(description="Give it to filesystem_restore; null when it is gone for good.")]


class TrashedEntry(_Answer):
    """Something in the trash."""

    trash_id: str
    path: str
    kind: str
    size_bytes: int | None
    deleted_at: str


class TrashList(_Answer):
    """A page of the trash, newest first."""

    entries: tuple[TrashedEntry, ...]
    total: int
    next_after: Annotated[str | None, NEXT_AFTER]


class Restored(_Answer):
    """Something came back from the trash."""

    trash_id: str
    path: str
    kind: str


class Emptied(_Answer):
    """The trash was emptied, or a part of it."""

    removed: int


class RootFacts(_Answer):
    """A folder the caller may use."""

    path: str
    writable: bool


class RootList(_Answer):
    """The folders the caller may use."""

    roots: tuple[str, ...]
    read_only: Annotated[tuple[str, ...], Field(description="Those of them in which nothing may be changed.")] = ()


class SearchFacts(_Answer):
    """How much was found; the lines are the content."""

    path: str
    outcome: str
    matched: int
    returned: int
    omitted: int
    files_matched: int
    problems: tuple[str, ...] = ()
