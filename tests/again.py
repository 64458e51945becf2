"""Runs pytest, and what failed once more by itself: `python -m tests.again pytest-arguments...`.

A test that passes only then is named at the end. Why, and what that is no excuse for:
`docs/decisions/0046-what-failed-is-asked-once-more.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

AT_MOST = 3


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run them, and the few that failed again.

    Args:
        arguments: What pytest is given.
        environment: Of both runs; `PYTEST_ADDOPTS` counts in both.

    Returns:
        pytest's exit code: of the first run, or of the second where there was one.
    """
    with tempfile.TemporaryDirectory() as cache:
        run = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}"]
        first = subprocess.run([*run, *arguments], check=False, env=environment).returncode
        if first != pytest.ExitCode.TESTS_FAILED:
            return first
        failed = failed_tests(Path(cache))
        if not 0 < len(failed) <= AT_MOST:
            print(f"{len(failed)} tests failed: too many to be chance", flush=True)
            return first
        print(f"once more, alone: {', '.join(failed)}", flush=True)
        second = subprocess.run([*run, *alone(arguments), *failed], check=False, env=environment).returncode
    if second == pytest.ExitCode.OK:
        print(f"passed only the second time, mend: {', '.join(failed)}", flush=True)
    return second


def failed_tests(cache: Path) -> list[str]:
    """The node ids that failed, errors of fixtures among them, from pytest's cache directory."""
    path = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text())) if path.exists() else []


def alone(arguments: Sequence[str]) -> list[str]:
    """The options among pytest's arguments that are not about which tests, nor about workers."""
    kept, left = [], iter(arguments)
    for argument in left:
        if argument in {"-n", "--dist", "-m"}:
            next(left, None)
        elif argument.startswith("-"):
            kept.append(argument)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
