"""Globs over tool, prompt and resource names: `*` stands for any characters, nothing else is special. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable


def allows(globs: Iterable[str], name: str) -> bool:
    """Whether one of the globs covers the whole name."""
    return any(re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name, re.DOTALL) for glob in globs)
