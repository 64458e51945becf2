"""What .gitignore files name, as far as the folder a walk began in. Blocks.

As git has it (gitignore(5)), read as globs of our own: whoever may write a file may write patterns, and with those of
a regular expression (`*a*a*a*b`) a name of two hundred letters would keep the interpreter for ever. A line that is no
pattern names nothing, as with git; nor does one with a slash in brackets.
"""

import os
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final

from services.filesystem.globs import Glob, any_of

__all__ = ["Ignored", "Rule", "rules_of"]

_FILE: Final = ".gitignore"
_BYTES: Final = 64 << 10
_LINE_CHARS: Final = 1000
_LISTED: Final = 256  # members a range is written out for; in wider ones nothing has another meaning
_CLASS: Final = re.compile(r"\[:([a-z]+):\]")
_CLASSES: Final = {
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "alnum": string.ascii_letters + string.digits,
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
    "blank": " \t",
    "space": string.whitespace,
    "cntrl": "".join(map(chr, (*range(32), 127))),
    "punct": string.punctuation,
    "print": "".join(map(chr, range(32, 127))),
    "graph": "".join(map(chr, range(33, 127))),
}


@dataclass(frozen=True)
class Rule:
    """What one line, or several of one kind in a row, say.

    Args:
        kept: What is named is not to be ignored.
        folders: Only folders are meant.
        names: Whether a path, relative to the file's folder, is named.
    """

    kept: bool
    folders: bool
    names: Callable[[str], object]


@dataclass(frozen=True)
class Ignored:
    """The .gitignore files of a folder and of those above it, innermost last.

    Args:
        found: The rules of each, the last line first, with the path of its folder, "" or ending in a slash.
    """

    found: tuple[tuple[str, tuple[Rule, ...]], ...] = ()

    def within(self, folder: int, path: str) -> "Ignored":
        """The same with the file of the folder at `path`, if it has one."""
        rules = rules_of(_text(folder))
        return Ignored((*self.found, (path, rules))) if rules else self

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether the path is named; the last line of the innermost file that says anything of it decides."""
        for start, rules in reversed(self.found):
            inner = path[len(start) :]
            for rule in rules:
                if (is_folder or not rule.folders) and rule.names(inner):
                    return not rule.kept
        return False


@dataclass(frozen=True)
class _Line:
    """What a line says: names of a path as fnmatch has them, and whether that path may begin in any folder."""

    kept: bool
    folders: bool
    anywhere: bool
    parts: tuple[str, ...]


@lru_cache(64)
def rules_of(text: str) -> tuple[Rule, ...]:
    """The rules of a file, the last line first."""
    lines = (line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n"))
    read = [found for line in lines if len(line) <= _LINE_CHARS and (found := _read(line)) is not None]
    rules: list[Rule] = []
    for (kept, folders, anywhere), group in groupby(reversed(read), lambda one: (one.kept, one.folders, one.anywhere)):
        parts = [one.parts for one in group]
        named = [_any_name(name for (name,) in parts)] if anywhere else [Glob((one,)).matches for one in parts]
        rules += [Rule(kept, folders, names) for names in named]
    return tuple(rules)


def _any_name(parts: Iterable[str]) -> Callable[[str], object]:
    """Whether a path's name is one of those: one look for all of them, as most lines are such."""
    named = any_of(parts)
    return lambda path: named(path.rpartition("/")[2])


def _read(line: str) -> _Line | None:
    """None where it says nothing."""
    while line.endswith(" ") and not _escaped(line):
        line = line[:-1]
    if line.startswith("#"):
        return None
    kept = line.startswith("!")
    line = line[kept:]
    folders, line = line.endswith("/"), line.removesuffix("/")
    try:
        parts = ["".join(_glob(name)) for name in line.removeprefix("/").split("/")]
    except ValueError:
        return None
    if not all(parts):
        return None
    if "/" in line and parts[-1] == "**":
        parts.append("*")  # what is in it, not the folder itself
    return _Line(kept, folders, "/" not in line, tuple(parts))


def _escaped(line: str) -> bool:
    """Whether the last character has a backslash before it that is not itself escaped."""
    before = line[:-1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _glob(name: str) -> Iterator[str]:
    """A name's pattern as fnmatch has it, where nothing can be escaped.

    Raises:
        ValueError: It is none.
    """
    at = 0
    while at < len(name):
        if name[at] == "[":
            found, at = _set(name, at + 1)
            yield found
            continue
        if name[at] == "\\":
            at += 1
            yield _literal(_at(name, at))
        else:
            yield name[at]
        at += 1


def _at(name: str, at: int) -> str:
    if at >= len(name):
        raise ValueError(name)
    return name[at]


def _literal(character: str) -> str:
    return f"[{character}]" if character in "*?[" else character


def _set(name: str, at: int) -> tuple[str, int]:
    """One of some characters, from behind its bracket; with where it goes on."""
    negated = _at(name, at) in "!^"
    first = at = at + negated
    members, wide, last = set[str](), list[str](), ""
    while at == first or _at(name, at) != "]":
        if found := _CLASS.match(name, at):
            if found[1] not in _CLASSES:
                raise ValueError(name)
            members.update(_CLASSES[found[1]])
            at, last = found.end(), ""
            continue
        if _at(name, at) == "-" and last and _at(name, at + 1) != "]":
            at += 1 + (name[at + 1] == "\\")
            low, high, last = ord(last), ord(_at(name, at)), ""
            if high - low < _LISTED:
                members.update(map(chr, range(low, high + 1)))
            else:
                wide.append(f"{chr(low)}-{chr(high)}")
        else:
            at += name[at] == "\\"
            last = _at(name, at)
            members.add(last)
        at += 1
    return _one_of(members, "".join(wide), negated=negated), at + 1


def _one_of(members: set[str], wide: str, *, negated: bool) -> str:
    """The set in the one order in which nothing of it means something else."""
    if not members and not wide:
        if negated:
            return "?"
        raise ValueError
    plain = "".join(sorted(members - set("]!-"))) + wide
    close, bang, dash = (character if character in members else "" for character in "]!-")
    if not (plain or close or negated) and bang:
        return "[-!]" if dash else "!"
    return f"[{'!' * negated}{close}{plain}{bang}{dash}]"


def _text(folder: int) -> str:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(_FILE, flags, dir_fd=folder)
    except OSError:
        return ""
    try:
        return os.read(fd, _BYTES).decode("utf-8", "replace")
    except OSError:  # a folder or a device of that name
        return ""
    finally:
        os.close(fd)
