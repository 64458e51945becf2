"""Edits of a file's bytes, and the diff that shows them. Pure.

Invariant: a byte outside of what an edit replaces is the same afterwards, whatever the file's encoding and line
endings are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from services.filesystem.encodings import UTF8, Encoding
from services.filesystem.nearest import nearest

__all__ = ["Edit", "EditError", "apply_edits", "as_utf8", "line_endings", "unified_diff"]

_LINES_SHOWN = 20
_CONTEXT_LINES = 3
_DIFF_LINES = 20_000
_MATCHES = 100_000
_UTF8 = Encoding()


class EditError(ValueError):
    """An edit that cannot be made as it stands; the text says which one and what to change."""


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Args:
        old_text: What stands there, exactly once.
        new_text: What shall stand there.
        everywhere: It may stand there several times, and is replaced at each.
    """

    old_text: str
    new_text: str
    everywhere: bool = False


def line_endings(content: bytes) -> str:
    """`lf`, `crlf`, `mixed` or `none`."""
    crlf = content.count(b"\r\n")
    lf = content.count(b"\n") - crlf
    if crlf and lf:
        return "mixed"
    return "crlf" if crlf else "lf" if lf else "none"


def apply_edits(content: bytes, edits: Sequence[Edit], encoding: Encoding = _UTF8) -> bytes:
    """`content` after all `edits`, each made on the result of those before it.

    Raises:
        EditError: One of them is empty, changes nothing, does not match exactly once, or has characters the file's
            encoding has no bytes for.
    """
    if not edits:
        raise EditError("there is no edit; give at least one")
    text = as_utf8(content, encoding)
    for number, edit in enumerate(edits, start=1):
        text = _apply(text, edit, f"edit {number}", checked=encoding.name == UTF8)
    if encoding.name == UTF8:
        return text
    try:
        return encoding.bom + text.decode("utf-8", "surrogatepass").encode(encoding.name, "surrogateescape")
    except UnicodeEncodeError as error:
        bad = ascii(error.object[error.start : error.start + 1])
        raise EditError(
            f"the file is {encoding.name}, which has no bytes for the character {bad}; leave it out"
        ) from None


def as_utf8(content: bytes, encoding: Encoding) -> bytes:
    """What a file in another encoding holds, in UTF-8 and without its mark; a file in UTF-8 as it is.

    Raises:
        EditError: Its bytes do not come back the same, so it is not in that encoding.
    """
    if encoding.name == UTF8:
        return content
    body = content[len(encoding.bom) :]
    try:
        text = body.decode(encoding.name, "surrogateescape")
        same = text.encode(encoding.name, "surrogateescape") == body
    except UnicodeError:
        same = False
    if not same:
        raise EditError(
            f"the file's bytes are not all {encoding.name}; name its encoding, or edit it as it is in ASCII"
        )
    return text.encode("utf-8", "surrogatepass")


def _apply(content: bytes, edit: Edit, name: str, *, checked: bool) -> bytes:
    if not edit.old_text:
        raise EditError(f"{name}: old_text is empty; give the text to replace, or write the whole file")
    if edit.old_text == edit.new_text:
        raise EditError(f"{name}: old_text and new_text are the same; there is nothing to change")
    _check_encoding(content, edit, name, checked=checked)
    old = edit.old_text.encode()
    found = _places(content, old)
    if not found and b"\n" in old:
        # What the caller read was shown with LF; the file may have CRLF.
        old = _with_crlf(old)
        found = _places(content, old)
    if not found or (len(found) > 1 and not edit.everywhere) or len(found) > _MATCHES:
        raise EditError(_not_once(content, edit, name, found))
    return _replaced(content, old, edit.new_text.encode(), found)


def _replaced(content: bytes, old: bytes, new: bytes, found: Sequence[int]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for start in found:
        if start < at:
            continue  # it overlaps with the one before, which is replaced
        pieces += [content[at:start], _with_crlf(new) if _is_crlf(content, start) else new]
        at = start + len(old)
    return b"".join([*pieces, content[at:]])


def _check_encoding(content: bytes, edit: Edit, name: str, *, checked: bool) -> None:
    if edit.old_text.isascii() and edit.new_text.isascii():
        return
    try:
        (edit.old_text + edit.new_text).encode()
    except UnicodeEncodeError:
        raise EditError(f"{name}: the text is not valid Unicode (a lone surrogate); send it as UTF-8") from None
    try:
        if checked:
            content.decode()
    except UnicodeDecodeError:
        raise EditError(
            f"{name}: the file is not UTF-8, so only edits in ASCII are possible; name its encoding, such as "
            "encoding=latin-1, or leave other characters out"
        ) from None


def _places(content: bytes, old: bytes) -> list[int]:
    return list(islice(_occurrences(content, old), _MATCHES + 1))


def _occurrences(content: bytes, old: bytes) -> Iterator[int]:
    # Overlapping ones too: replacing one of them would be a choice as well.
    at = content.find(old)
    while at >= 0:
        yield at
        at = content.find(old, at + 1)


def _with_crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _is_crlf(content: bytes, start: int) -> bool:
    """Whether the line at `start` ends in CRLF; for a last line without an end, the line before."""
    end = content.find(b"\n", start)
    if end < 0:
        end = content.rfind(b"\n", 0, start)
    return end > 0 and content[end - 1] == ord("\r")


def _not_once(content: bytes, edit: Edit, name: str, found: Sequence[int]) -> str:
    if not found:
        near = nearest(content, edit.old_text.encode())
        hint = f"; {near}" if near else ""
        return f"{name}: old_text was not found (0 matches){hint}; read the file again and copy the text exactly"
    lines = [content.count(b"\n", 0, at) + 1 for at in found[:_LINES_SHOWN]]
    more = f" and {len(found) - _LINES_SHOWN} more" if len(found) > _LINES_SHOWN else ""
    where = ", ".join(map(str, lines)) + more
    count = f"more than {_MATCHES}" if len(found) > _MATCHES else len(found)
    return f"{name}: old_text matches {count} times (lines {where}); add surrounding lines to make it unique"


def _lines(content: bytes) -> list[str]:
    # Not splitlines(): that would also split at form feeds and the like, which are no line ends to an editor.
    *whole, rest = content.decode("utf-8", "backslashreplace").split("\n")
    return [f"{line}\n" for line in whole] + ([rest] if rest else [])


def unified_diff(before: bytes, after: bytes, path: str) -> str:
    """The change as a unified diff, with `\\ No newline at end of file` where it applies."""
    old, new = _lines(before), _lines(after)
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    # Only what lies between the first and the last change is compared: difflib is slow on long files.
    first, last = max(0, head - _CONTEXT_LINES), max(0, tail - _CONTEXT_LINES)
    old_part, new_part = old[first : len(old) - last], new[first : len(new) - last]
    header = f"--- {path}\n+++ {path}\n"
    if max(len(old_part), len(new_part)) > _DIFF_LINES:
        return f"{header}(the changes lie more than {_DIFF_LINES} lines apart; no diff was made)\n"
    return header + "".join(_hunks(old_part, new_part, first))


def _hunks(old: list[str], new: list[str], first: int) -> Iterator[str]:
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(_CONTEXT_LINES):
        old_start, old_end, new_start, new_end = group[0][1], group[-1][2], group[0][3], group[-1][4]
        yield (f"@@ -{first + old_start + 1},{old_end - old_start} +{first + new_start + 1},{new_end - new_start} @@\n")
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                yield from (_line(" ", text) for text in old[old_from:old_to])
                continue
            yield from (_line("-", text) for text in old[old_from:old_to])
            yield from (_line("+", text) for text in new[new_from:new_to])


def _line(mark: str, text: str) -> str:
    body = text.rstrip("\r\n")
    return f"{mark}{body}\n" if text.endswith("\n") else f"{mark}{body}\n\\ No newline at end of file\n"
