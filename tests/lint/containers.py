"""Runs hadolint over Dockerfiles and dclint over Compose files: `python -m tests.lint.containers`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.programs import ROOT, program

DOCKERFILES = ("compose/images/Dockerfile",)
COMPOSE = "compose/*.yml"
RULES = Path(__file__).parent / "dclint.json"
NEEDS_A_NAME = "docker-compose."
LINT_S = 120
DEFAULT = re.compile(r"\$\{\w+:?-([^${}]*)\}")
IMAGE = re.compile(r"\s*image:")


def dockerfile_faults(paths: Sequence[Path]) -> list[str]:
    """What hadolint has against Dockerfiles, one line each."""
    found = _told([program("hadolint"), "--format", "json", *map(str, paths)]) if paths else []
    return [f"{each['file']}:{each['line']}: {each['code']} {each['message']}" for each in found]


def compose_faults(paths: Sequence[Path]) -> list[str]:
    """What dclint has against Compose files, one line each; a file that others include needs no project name."""
    return [fault for path in paths for fault in _faults_of(path)]


def _faults_of(path: Path) -> list[str]:
    part = () if path.name.startswith(NEEDS_A_NAME) else ("--disable-rule", "require-project-name-field")
    with tempfile.TemporaryDirectory(prefix="lint-") as folder:
        copy = Path(folder, path.name)
        copy.write_text(with_defaults(path.read_text(encoding="utf-8")), encoding="utf-8")
        argv = [program("dclint"), "--config", str(RULES), "--formatter", "json", str(copy), *part]
        found = [it for each in _told(argv) for it in each["messages"]]
    return [f"{path}:{it['line']}: {it['rule']} {it['message']}" for it in found]


def with_defaults(text: str) -> str:
    """A Compose file with its variables' defaults put in, line by line, but for images: the linter takes an interface
    or a port in a variable for none, and what tag an image has is in the variable's default or its owner's hands."""
    return "".join(line if IMAGE.match(line) else _put_in(line) for line in text.splitlines(keepends=True))


def _put_in(line: str) -> str:
    while (replaced := DEFAULT.sub(r"\1", line)) != line:  # innermost first
        line = replaced
    return line


def _told(argv: Sequence[str]) -> list[dict[str, Any]]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LINT_S, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(
            f"`{' '.join(argv)}` ended with code {done.returncode}: {done.stderr or done.stdout}"
        ) from error
    assert isinstance(found, list)
    return found


def main() -> int:
    """Lint everything there is; prints each fault."""
    dockerfiles = [path for name in DOCKERFILES if (path := ROOT / name).exists()]
    compose = sorted(ROOT.glob(COMPOSE))
    faults = [*dockerfile_faults(dockerfiles), *compose_faults(compose)]
    for fault in faults:
        print(fault)
    print(f"{len(dockerfiles)} Dockerfiles, {len(compose)} Compose files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
