"""Runs hadolint over Dockerfiles and dclint over Compose files: `python -m tests.lint.containers`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.programs import ROOT, program

DOCKERFILES = ("compose/images/Dockerfile",)
COMPOSE = "compose/*.yml"
RULES = Path(__file__).parent / "dclint.json"
NEEDS_A_NAME = "docker-compose."
LINT_S = 120


def dockerfile_faults(paths: Sequence[Path]) -> list[str]:
    """What hadolint has against Dockerfiles, one line each."""
    found = _told([program("hadolint"), "--format", "json", *map(str, paths)]) if paths else []
    return [f"{each['file']}:{each['line']}: {each['code']} {each['message']}" for each in found]


def compose_faults(paths: Sequence[Path]) -> list[str]:
    """What dclint has against Compose files, one line each; a file that others include needs no project name."""
    return [fault for path in paths for fault in _faults_of(path)]


def _faults_of(path: Path) -> list[str]:
    part = () if path.name.startswith(NEEDS_A_NAME) else ("--disable-rule", "require-project-name-field")
    argv = [program("dclint"), "--config", str(RULES), "--formatter", "json", str(path), *part]
    found = [(each["filePath"], it) for each in _told(argv) for it in each["messages"]]
    return [f"{file}:{it['line']}: {it['rule']} {it['message']}" for file, it in found]


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
