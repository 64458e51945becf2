"""What a page of the docs tells people to type, typed: its blocks of shell, in their order, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import ROOT

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCK_S = 300


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        language: As it says at its beginning.
        text: What is in it.
        number: Which of the page it is, from 1.
    """

    language: str
    text: str
    number: int


def blocks(page: str) -> list[Block]:
    """The blocks of a page of docs/ that have a language."""
    text = (ROOT / "docs" / page).read_text()
    return [Block(language, code, n) for n, (language, code) in enumerate(_BLOCK.findall(text), 1)]


def command_of(folder: Path) -> Path:
    """Put the command `tekup` of this checkout into a folder, beside the Python it runs with, for PATH."""
    folder.mkdir(exist_ok=True)
    tekup = folder / "tekup"
    tekup.write_text(f"#!{sys.executable}\nfrom control_plane.cli import main\n\nmain()\n")
    tekup.chmod(0o755)
    python = folder / "python"  # by a link it would not know the packages beside it
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


def typed(block: Block, folder: Path, programs: Path, own: dict[str, str]) -> str:
    """Run a block of shell as somebody types it, stopping at the first command that fails.

    Args:
        block: What to run.
        folder: Where.
        programs: A folder that is looked in before the rest of PATH.
        own: Variables besides.

    Returns:
        What it printed.

    Raises:
        AssertionError: It failed; says with what.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{programs}:{os.environ['PATH']}", **own}
    bash = shutil.which("bash") or "/bin/bash"
    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", block.text],
        cwd=folder, env=env, capture_output=True, text=True, timeout=BLOCK_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"block {block.number}: {done.returncode}\n{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
