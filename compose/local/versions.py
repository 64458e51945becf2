"""Compares the versions programs print about themselves."""

import re

_NUMBER = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.(\d+))?")


def printed_version(output: str) -> str:
    """The first version number in what a program printed, or "" if there is none."""
    match = _NUMBER.search(output)
    return match.group(0) if match else ""


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, to compare; missing parts count as 0."""
    match = _NUMBER.match(version)
    return tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)


def at_least(version: str, minimum: str) -> bool:
    """Whether a version is not older than another."""
    return numbers(version) >= numbers(minimum)
