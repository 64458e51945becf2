"""Patterns of callers, in time that grows with the text and no faster. Pure.

Python's own expressions hold the whole process for as long as they take, and Playwright's globs become such ones, in
its driver as well: `*a*a*a*b` and an address of three hundred letters kept every page waiting.
"""

from collections.abc import Callable

import re2
from playwright._impl.isomorphic.url_match import resolve_glob_to_regex_pattern
from playwright.async_api import Error

__all__ = ["PatternError", "in_line", "of_url"]


class PatternError(ValueError):
    """A pattern that is none; the text says why."""


def in_line(regex: str) -> Callable[[str], bool]:
    """Whether a line holds what an expression describes.

    Args:
        regex: In the syntax of RE2 (https://github.com/google/re2/wiki/Syntax).

    Raises:
        PatternError: It is none.
    """
    try:
        found = re2.compile(regex, _quiet())
    except re2.error as error:
        raise PatternError(f"regex {regex[:100]!r} is none that RE2 takes: {_said(error)}") from error
    return lambda line: found.search(line) is not None


def of_url(glob: str) -> Callable[[str], bool]:
    """Whether a glob describes a URL, as Playwright has it: `*` within a folder, `**` over folders, `{a,b}`.

    Raises:
        PatternError: It is none.
    """
    try:
        return in_line(resolve_glob_to_regex_pattern(None, glob))
    except Error as error:
        raise PatternError(error.message) from error


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
