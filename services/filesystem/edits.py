"""Edits of a file's bytes, and the diff that shows them. Pure.

Invariant: a byte outside of what an edit replaces is the same afterwards, whatever the file's encoding and line
endings are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

__all__ = ["Edit", "EditError", "apply_edits", "line_endings", "unified_diff"]

_LINES_SHOWN = 20
_CONTEXT_LINES = 3
_DIFF_LINES = 20_000


class EditError(ValueError):
    """An edit that cannot be made as it stands; the text says which one and what to change."""


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Args:
        old_text: What stands there, exactly once.
        new_text: What shall stand there.
    """

    old_text: str
    new_text: str


def line_endings(content: bytes) -> str:
    """`lf`, `crlf`, `mixed` or `none`."""
    crlf = content.count(b"\r\n")
    lf = content.count(b"\n") - crlf
    if crlf and lf:
        return "mixed"
    return "crlf" if crlf else "lf" if lf else "none"


def apply_edits(content: bytes, edits: Sequence[Edit]) -> bytes:
    """`content` after all `edits`, each made on the result of those before it.

    Raises:
        EditError: One of them is empty, changes nothing, or does not match exactly once.
    """
    if not edits:
        raise EditError("there is no edit; give at least one")
    for number, edit in enumerate(edits, start=1):
        content = _apply(content, edit, f"edit {number}")
    return content


def _apply(content: bytes, edit: Edit, name: str) -> bytes:
    if not edit.old_text:
        raise EditError(f"{name}: old_text is empty; give the text to replace, or write the whole file")
    if edit.old_text == edit.new_text:
        raise EditError(f"{name}: old_text and new_text are the same; there is nothing to change")
    _check_encoding(content, edit, name)
    old = edit.old_text.encode()
    found = list(_occurrences(content, old))
    if not found and b"\n" in old:
        # What the caller read was shown with LF; the file may have CRLF.
        old = _with_crlf(old)
        found = list(_occurrences(content, old))
    if len(found) != 1:
        raise EditError(_not_once(content, name, found))
    start, end = found[0], found[0] + len(old)
    new = edit.new_text.encode()
    if _is_crlf(content, start):
        new = _with_crlf(new)
    return content[:start] + new + content[end:]


def _check_encoding(content: bytes, edit: Edit, name: str) -> None:
    if edit.old_text.isascii() and edit.new_text.isascii():
        return
    try:
        content.decode()
    except UnicodeDecodeError:
        raise EditError(
            f"{name}: the file is not UTF-8, so only edits in ASCII are possible; leave other characters out"
        ) from None
    try:
        (edit.old_text + edit.new_text).encode()
    except UnicodeEncodeError:
        raise EditError(f"{name}: the text is not valid Unicode (a lone surrogate); send it as UTF-8") from None


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


def _not_once(content: bytes, name: str, found: Sequence[int]) -> str:
    if not found:
        return f"{name}: old_text was not found (0 matches); read the file again and copy the text exactly"
    lines = [content.count(b"\n", 0, at) + 1 for at in found[:_LINES_SHOWN]]
    more = f" and {len(found) - _LINES_SHOWN} more" if len(found) > _LINES_SHOWN else ""
    where = ", ".join(map(str, lines)) + more
    return f"{name}: old_text matches {len(found)} times (lines {where}); add surrounding lines to make it unique"


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
