"""Cursors: where the next page of an answer begins. Pure.

A cursor names the place it goes on after, not a number of lines to pass over, so that a file which changes between two
pages neither repeats lines nor hides others. It is bound to its question.
"""

import base64
import binascii
import hashlib
import json

__all__ = ["CursorError", "next_cursor", "read_cursor"]

_MARK_BYTES = 6

Place = tuple[str, int]


class CursorError(ValueError):
    """A cursor cannot be used; the text says what to do."""


def _mark(question: object) -> str:
    return hashlib.blake2b(repr(question).encode("utf-8", "replace"), digest_size=_MARK_BYTES).hexdigest()


def next_cursor(question: object, path: str, number: int) -> str:
    """The cursor of what follows a place.

    Args:
        question: All that makes up the question; its `repr` has to be the same for the same question.
        path: Of the last thing returned.
        number: Its line, or how many were returned where the order is a ranking.
    """
    raw = json.dumps([_mark(question), path, number], ensure_ascii=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()


def read_cursor(question: object, cursor: str) -> Place | None:
    """Where to go on, None for the first page.

    Raises:
        CursorError: It is none of this service's, or another question's.
    """
    if not cursor:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        mark, path, number = json.loads(raw)
    except (binascii.Error, ValueError, TypeError) as error:
        raise CursorError("the cursor is none of this service; leave it out to start from the beginning") from error
    if mark != _mark(question) or not isinstance(path, str) or not isinstance(number, int):
        raise CursorError("the cursor belongs to another question; repeat the arguments it was given for")
    return path, number
