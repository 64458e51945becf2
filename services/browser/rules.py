"""The rules of a robots.txt for one machine (RFC 9309). Pure; takes time linear in the rules and the path.

Python's own reader (urllib.robotparser) knows neither `*` nor `$` and takes the first rule that fits, not the longest;
others make regular expressions of what a site sends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from services.common.stars import covers

__all__ = ["Rules"]

_RULES: Final = 5000
_PATTERN_CHARS: Final = 2000
_ENCODED: Final = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_ASCII: Final = "".join(map(chr, range(33, 127)))


@dataclass(frozen=True)
class _Rule:
    """What one line says of paths.

    Args:
        allows: Or forbids.
        pieces: What stands between the asterisks of its pattern, one of which stands for all that may follow.
        length: Of the pattern: the longest that fits decides.
    """

    allows: bool
    pieces: tuple[str, ...]
    length: int

    def fits(self, path: str) -> bool:
        """Whether it speaks of a path."""
        return covers(self.pieces, path)


@dataclass(frozen=True)
class Rules:
    """What a site asks of one machine."""

    _rules: tuple[_Rule, ...] = ()

    @classmethod
    def of(cls, text: str, agent: str) -> "Rules":
        """Those of a robots.txt.

        Args:
            text: The file.
            agent: The machine's product token, in any case.
        """
        ours: list[_Rule] = []
        for_all: list[_Rule] = []
        named = False
        for agents, rules in _groups(text):
            if agent.lower() in agents:
                named = True
                ours += rules
            if "*" in agents:
                for_all += rules
        return cls(tuple((ours if named else for_all)[:_RULES]))

    def allow(self, url: str) -> bool:
        """Whether the machine may read a URL: as the longest pattern that fits says; of two as long, the one that
        allows."""
        parts = urlsplit(url)
        path = _normal((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        if path == "/robots.txt":
            return True
        fitting = [(rule.length, rule.allows) for rule in self._rules if rule.fits(path)]
        return max(fitting)[1] if fitting else True


def _groups(text: str) -> Iterator[tuple[set[str], list[_Rule]]]:
    """Whom each group of lines is for, in lower case, and its rules."""
    agents: set[str] = set()
    rules: list[_Rule] = []
    begun = False
    for line in text.removeprefix("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if begun:
                yield agents, rules
                agents, rules, begun = set(), [], False
            agents.add(value.partition("/")[0].strip().lower())
        elif key in ("allow", "disallow"):
            begun = True
            if value and len(value) <= _PATTERN_CHARS and agents:
                rules.append(_rule(value, allows=key == "allow"))
    yield agents, rules


def _rule(pattern: str, *, allows: bool) -> _Rule:
    normal = _normal(pattern)
    whole = normal.removesuffix("$") if normal.endswith("$") else f"{normal}*"
    return _Rule(allows, tuple(whole.split("*")), len(normal))


def _normal(path: str) -> str:
    """With the same characters encoded whoever wrote it (RFC 9309, 2.2.2)."""

    def decoded(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if character in _UNRESERVED else found[0].upper()

    return _ENCODED.sub(decoded, quote(path, safe=_ASCII))
