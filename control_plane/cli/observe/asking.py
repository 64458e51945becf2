"""What is said when a program of the on-call stack does not answer, or when something else answers in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from compose.local.errors import LocalError

__all__ = ["asking"]


@contextmanager
def asking(program: str, url: str, failed: type[LocalError]) -> Iterator[None]:
    """Around a question and the reading of its answer.

    Args:
        program: Who is asked, as people call it.
        url: Where it is.
        failed: Raised for a silence, and for an answer of another form than that program's.
    """
    try:
        yield
    except httpx.HTTPError as error:
        raise failed(f"{program} at {url} does not answer: {error or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise failed(f"what answers at {url} is no {program}: {type(error).__name__} {error}") from error
