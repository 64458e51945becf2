"""Bytes of files: ranges of them, and whole media files. Blocks: call it in a thread."""

import mimetypes
import os
from dataclasses import dataclass
from typing import Literal

from services.common.paths import PathError, Place, opened_file

__all__ = ["RAW", "Media", "Range", "mime_type_of", "read_media", "read_range"]

_SNIFFED_BYTES = 512
# By their first bytes, as names lie: (where, what, type).
_MARKS = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftypM4A", "audio/mp4"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x1f\x8b", "application/gzip"),
)
RAW = "application/octet-stream"
_MEDIA = ("image/", "audio/")


@dataclass(frozen=True)
class Range:
    """Bytes of a file.

    Args:
        content: The bytes.
        offset: Where they start.
        size_bytes: Size of the file.
        is_text: They are text as they stand.
    """

    content: bytes
    offset: int
    size_bytes: int
    is_text: bool

    @property
    def next_offset(self) -> int | None:
        """Where to go on, None at the end of the file."""
        end = self.offset + len(self.content)
        return end if end < self.size_bytes else None


@dataclass(frozen=True)
class Media:
    """A file that is not text.

    Args:
        kind: How it is to be sent.
        mime_type: What it is.
        size_bytes: Its size.
        content: All of it, None when it is larger than was asked for.
    """

    kind: Literal["image", "audio", "binary"]
    mime_type: str
    size_bytes: int
    content: bytes | None


def read_range(place: Place, *, offset: int, length: int, whole_characters: bool) -> Range:
    """Bytes `offset` to at most `offset + length`.

    Args:
        place: The file.
        offset: From 0.
        length: The most bytes.
        whole_characters: End before a character of UTF-8 that would be cut.

    Raises:
        PathError: The file cannot be read, or is shorter.
    """
    with opened_file(place) as fd:
        size = os.fstat(fd).st_size
        if offset > size:
            raise PathError(f"{place.shown} has {size} bytes; offset {offset} is behind its end")
        raw = os.pread(fd, length, offset)
    cut = _without_cut_character(raw) if offset + len(raw) < size else raw
    is_text = b"\0" not in raw and _decodes(cut)
    return Range(cut if is_text and whole_characters and cut else raw, offset, size, is_text)


def _without_cut_character(raw: bytes) -> bytes:
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte < 0x80:
            return raw
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return raw[:-back] if needed > back else raw
    return raw


def _decodes(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def mime_type_of(head: bytes, name: str) -> str:
    """What a file is, by its first bytes, else by its name."""
    for at, mark, found in _MARKS:
        if head[at : at + len(mark)] == mark:
            return found
    guessed, coding = mimetypes.guess_type(name, strict=False)
    # A name alone makes no image: who asked for one would be sent what is none.
    if guessed is None or coding is not None or (guessed.startswith(_MEDIA) and "svg" not in guessed):
        return RAW
    return guessed


def read_media(place: Place, *, most_bytes: int) -> Media:
    """A whole file that is not text.

    Raises:
        PathError: It cannot be read.
    """
    with opened_file(place) as fd:
        size = os.fstat(fd).st_size
        mime_type = mime_type_of(os.pread(fd, _SNIFFED_BYTES, 0), place.relative)
        content = bytearray()
        while size <= most_bytes and len(content) < size and (chunk := os.pread(fd, size, len(content))):
            content += chunk
    kind: Literal["image", "audio", "binary"] = "binary"
    if mime_type.startswith(_MEDIA):
        kind = "image" if mime_type.startswith("image/") else "audio"
    return Media(kind, mime_type, size, bytes(content) if size <= most_bytes else None)
