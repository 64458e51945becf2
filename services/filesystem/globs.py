"""Globs over paths, matched folder by folder while walking. Pure.

`*`, `?`, `[a-z]` within a name, `**` over folders, `{a,b}` for alternatives. A pattern without a slash matches names
at any depth. A pattern becomes a set of states that steps through the names of a path, so that a walk skips what
cannot match, and no pattern makes matching slow.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Glob", "GlobError", "States", "any_of"]

_ALTERNATIVES = 64
_PATTERN_CHARS = 1000
_BRACES = re.compile(r"\{([^{}]*)\}")

States = frozenset[tuple[int, int]]
"""Where a walk stands: (alternative, its part that comes next)."""


class GlobError(ValueError):
    """A pattern that cannot be used; the text says why."""


def _alternatives(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in found[1].split(","):
        yield from _alternatives(f"{pattern[: found.start()]}{choice}{pattern[found.end() :]}")


def _parts(pattern: str) -> tuple[str, ...]:
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if ".." in names:
        raise GlobError(f"pattern {pattern!r} holds '..'; give the folder to start in instead")
    return tuple(names) if "/" in pattern else ("**", *names)


def any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    """What says whether one of these patterns, of fnmatch's, describes a name: one look for all of them."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match


@dataclass(frozen=True)
class Glob:
    """A pattern, ready to match.

    Args:
        alternatives: Its parts, for each alternative of its braces.
    """

    alternatives: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, pattern: str) -> "Glob":
        """Read a pattern.

        Raises:
            GlobError: It is empty, too long, or has too many alternatives.
        """
        if not pattern.strip("/") or len(pattern) > _PATTERN_CHARS:
            raise GlobError(f"the pattern must have 1 to {_PATTERN_CHARS} characters, such as '**/*.py'")
        found: list[tuple[str, ...]] = []
        for alternative in _alternatives(pattern):
            found.append(_parts(alternative))
            if len(found) > _ALTERNATIVES:
                raise GlobError(f"pattern {pattern!r} has more than {_ALTERNATIVES} alternatives; use fewer braces")
        return cls(tuple(found))

    def start(self) -> States:
        """The states before the first name."""
        return self._closed((number, 0) for number in range(len(self.alternatives)))

    def step(self, states: States, name: str) -> States:
        """The states after `name`; none when nothing beneath it can match."""
        return self._closed(
            (number, part if pattern == "**" else part + 1)
            for number, part in states
            if part < len(self.alternatives[number])
            and ((pattern := self.alternatives[number][part]) == "**" or fnmatch.fnmatchcase(name, pattern))
        )

    def accepts(self, states: States) -> bool:
        """Whether the path walked so far matches."""
        return any(part == len(self.alternatives[number]) for number, part in states)

    def goes_on(self, states: States) -> bool:
        """Whether something beneath the path walked so far can match."""
        return any(part < len(self.alternatives[number]) for number, part in states)

    def ending(self, states: States) -> Callable[[str], object]:
        """What says whether a path that ends in a name matches, standing at `states`; faster than a step."""
        names = {
            "*" if (part := self.alternatives[number][at]) == "**" else part
            for number, at in states
            if at < len(self.alternatives[number]) and self._ends_after(number, at)
        }
        if "*" in names:
            return lambda _: True
        return any_of(sorted(names))

    def _ends_after(self, number: int, at: int) -> bool:
        parts = self.alternatives[number]
        return all(part == "**" for part in parts[at + 1 :])

    def matches(self, path: str) -> bool:
        """Whether a whole relative path matches."""
        states = self.start()
        for name in path.split("/"):
            states = self.step(states, name)
        return self.accepts(states)

    def _closed(self, states: Iterator[tuple[int, int]]) -> States:
        found: set[tuple[int, int]] = set()
        for number, first in states:
            part = first
            found.add((number, part))
            # `**` also stands for no folder at all.
            while part < len(self.alternatives[number]) and self.alternatives[number][part] == "**":
                part += 1
                found.add((number, part))
        return frozenset(found)
