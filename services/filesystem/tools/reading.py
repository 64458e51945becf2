"""Tools that read files, and files as resources."""

import base64
from functools import partial
from typing import Annotated, Literal, NamedTuple
from urllib.parse import quote

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ResourceError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
)
from pydantic import Field

from services.common import Kit
from services.common.declared import TypedBytes, TypedText
from services.common.paths import PathError, Place
from services.filesystem import answers
from services.filesystem.encodings import EncodingError
from services.filesystem.files import Files
from services.filesystem.ranges import RAW, Media, read_media, read_range
from services.filesystem.reading import BinaryFile, Window, read_tail, read_window
from services.filesystem.tools.arguments import Encoding, PathArgument

__all__ = ["declare"]

_RESOURCE = "filesystem://files/"
_MOST_FILES = 50
_RANGE_BYTES = 32 << 10


def declare(kit: Kit, files: Files) -> None:
    """Declare them."""
    _read_file(kit, files)
    _read_files(kit, files)
    _read_bytes(kit, files)
    _resource(kit, files)


def _read_file(kit: Kit, files: Files) -> None:
    @kit.tool(title="Read a file", read_only=True, idempotent=True)
    async def filesystem_read_file(
        path: PathArgument,
        offset: Annotated[int, Field(ge=1, description="First line to read, from 1.")] = 1,
        limit: Annotated[int, Field(ge=1, le=10_000, description="Most lines to read.")] = 2000,
        numbers: Annotated[bool, Field(description="Put its number before each line.")] = False,
        tail: Annotated[int | None, Field(ge=1, le=10_000, description="Read the last lines instead.")] = None,
        encoding: Encoding = None,
    ) -> Annotated[CallToolResult, answers.ReadLines]:
        """Read lines of a text file, or a picture or sound. Continue with offset = next_offset.
        Other binary files come as base64, large ones as a link."""

        def work(place: Place) -> Window | Media:
            budget = files.limits.answer_bytes
            try:
                if tail is not None:
                    return read_tail(place, lines=tail, numbers=numbers, budget_bytes=budget, encoding=encoding)
                return read_window(
                    place, offset=offset, limit=limit, numbers=numbers, budget_bytes=budget, encoding=encoding
                )
            except BinaryFile:
                return read_media(place, most_bytes=files.limits.inline_bytes)

        found = await files.run(work, path)
        if isinstance(found, Media):
            return _media(path, files.place(path), found)
        facts = _lines(path, found)
        return answers.answer(facts, found.text, _reading_note(facts))


def _lines(path: str, window: Window) -> answers.ReadLines:
    return answers.ReadLines(
        path=path,
        first_line=window.first_line,
        lines=window.lines,
        next_offset=window.next_offset,
        total_lines=window.total_lines,
        size_bytes=window.size_bytes,
        line_ending=window.line_ending,
        note=window.note,
        encoding=window.encoding,
        sha256=window.sha256,
    )


def _reading_note(facts: answers.ReadLines) -> str:
    notes = [facts.note] if facts.note else []
    if facts.next_offset is not None and facts.first_line is not None:
        last = facts.first_line + facts.lines - 1
        of = "" if facts.total_lines is None else f" of {facts.total_lines}"
        notes.insert(0, f"lines {facts.first_line}-{last}{of}; continue with offset={facts.next_offset}")
    return "; ".join(notes)


def _media(path: str, place: Place, media: Media) -> CallToolResult:
    facts = answers.ReadLines(
        path=path,
        first_line=None,
        lines=0,
        next_offset=None,
        total_lines=None,
        size_bytes=media.size_bytes,
        line_ending="none",
        note="",
        encoding="",
        kind=media.kind,
        mime_type=media.mime_type,
    )
    note = f"{media.mime_type}, {media.size_bytes} bytes"
    if media.content is None:
        note += "; too large to send here: read the linked resource, or parts with filesystem_read_bytes"
    return answers.answer(facts, "", note, blocks=[_block(place, media)])


def _block(place: Place, media: Media) -> ContentBlock:
    uri = _uri(place)
    if media.content is None:
        name = place.relative.rpartition("/")[2]
        return ResourceLink(type="resource_link", name=name, uri=uri, mime_type=media.mime_type, size=media.size_bytes)
    data = base64.b64encode(media.content).decode()
    if media.kind == "image":
        return ImageContent(type="image", data=data, mime_type=media.mime_type)
    if media.kind == "audio":
        return AudioContent(type="audio", data=data, mime_type=media.mime_type)
    return EmbeddedResource(
        type="resource", resource=BlobResourceContents(uri=uri, mime_type=media.mime_type, blob=data)
    )


def _uri(place: Place) -> str:
    return _RESOURCE + quote(place.root.shown(place.relative).lstrip("/"))


class _Read(NamedTuple):
    """One of several files: what to say of it, and its lines."""

    facts: answers.ReadFile
    text: str


def _read_files(kit: Kit, files: Files) -> None:
    @kit.tool(title="Read several files", read_only=True, idempotent=True)
    async def filesystem_read_files(
        paths: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST_FILES)],
        limit: Annotated[int, Field(ge=1, le=10_000, description="Most lines of each file.")] = 2000,
        numbers: Annotated[bool, Field(description="Put its number before each line.")] = False,
    ) -> Annotated[CallToolResult, answers.ReadMany]:
        """Read the beginnings of several text files. One that cannot be read is told of."""

        def work() -> tuple[list[_Read], tuple[str, ...]]:
            found: list[_Read] = []
            left = files.limits.answer_bytes
            for number, path in enumerate(paths):
                if left < _HEADER_BYTES + len(path.encode()):
                    return found, paths[number:]
                one = _one(files, path, limit, numbers=numbers, budget_bytes=left - _HEADER_BYTES - len(path.encode()))
                found.append(one)
                left -= len(one.text.encode()) + _HEADER_BYTES
            return found, ()

        found, not_reached = await files.run_plain(work, changes=False)
        facts = answers.ReadMany(
            files=tuple(one.facts for one in found),
            failed=sum(bool(one.facts.error) for one in found),
            not_reached=not_reached,
        )
        note = f"no room was left for {len(not_reached)} more; ask for them alone" if not_reached else ""
        return answers.answer(facts, "\n".join(one.text for one in found), note)


_HEADER_BYTES = 120


def _one(files: Files, path: str, limit: int, *, numbers: bool, budget_bytes: int) -> _Read:
    try:
        window = read_window(files.place(path), offset=1, limit=limit, numbers=numbers, budget_bytes=budget_bytes)
    except (PathError, EncodingError) as error:
        return _Read(answers.ReadFile(path=path, error=str(error)), f"==> {path}: {error}")
    facts = answers.ReadFile(
        path=path, lines=window.lines, next_offset=window.next_offset, total_lines=window.total_lines
    )
    more = f" (lines 1-{window.lines} of {window.total_lines})" if window.next_offset else ""
    return _Read(facts, f"==> {path}{more}\n{window.text}")


def _read_bytes(kit: Kit, files: Files) -> None:
    @kit.tool(title="Read bytes of a file", read_only=True, idempotent=True)
    async def filesystem_read_bytes(
        path: PathArgument,
        offset: Annotated[int, Field(ge=0, description="First byte, from 0.")] = 0,
        length: Annotated[int, Field(ge=1, le=1 << 20, description="Most bytes.")] = _RANGE_BYTES,
        form: Annotated[
            Literal["auto", "text", "base64"], Field(description="auto: text where the bytes are UTF-8.")
        ] = "auto",
    ) -> Annotated[CallToolResult, answers.ReadBytes]:
        """Read a range of bytes of any file, such as of a line too long to show. Continue with offset = next_offset."""
        budget = files.limits.answer_bytes
        most = min(length, budget * 3 // 4 if form == "base64" else budget)
        found = await files.run(
            partial(read_range, offset=offset, length=most, whole_characters=form != "base64"), path
        )
        as_text = form == "text" or (form == "auto" and found.is_text)
        # Base64 makes four characters of three bytes, an escape four of one.
        content = found.content
        if not (found.is_text and as_text):
            content = content[: budget // 4 if as_text else budget * 3 // 4]
        text = content.decode("utf-8", "backslashreplace") if as_text else base64.b64encode(content).decode()
        next_offset = found.offset + len(content) if found.offset + len(content) < found.size_bytes else None
        facts = answers.ReadBytes(
            path=path,
            offset=found.offset,
            length=len(content),
            next_offset=next_offset,
            size_bytes=found.size_bytes,
            form="text" if as_text else "base64",
        )
        note = f"{len(content)} of {found.size_bytes} bytes; continue with offset={next_offset}" if next_offset else ""
        return answers.answer(facts, text, note)


def _resource(kit: Kit, files: Files) -> None:
    @kit.resource(_RESOURCE + "{+path}", title="A file", mime_type="application/octet-stream")
    async def file(path: str) -> TypedBytes | TypedText:
        """A whole file; `path` is absolute, without its first slash. Large files have to be read with tools."""

        def work() -> Media:
            place = files.place(f"/{path}")
            media = read_media(place, most_bytes=files.limits.resource_bytes)
            if media.content is None:
                raise PathError(
                    f"{place.shown} has {media.size_bytes} bytes, more than the {files.limits.resource_bytes} of a "
                    "resource; read parts of it with filesystem_read_bytes"
                )
            return media

        try:
            media = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except PathError as error:
            raise ResourceError(str(error)) from error
        content = media.content or b""
        if media.kind == "binary" and _is_text(content):
            return TypedText(content.decode(), "text/plain" if media.mime_type == RAW else media.mime_type)
        return TypedBytes(content, media.mime_type)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content
