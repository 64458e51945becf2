"""The project of a new service: a folder with tools, tests, a Dockerfile, and a page that says what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from compose.local.bridged.declared import checked_name
from compose.local.errors import BadInput, StepFailed
from observability.telemetry.about import platform_version

__all__ = ["declaration_of", "make_project"]

TEMPLATES = Path(__file__).parent / "template"
MODULE = re.compile(r"[a-z][a-z0-9_]*")


def make_project(name: str, folder: Path) -> tuple[Path, ...]:
    """Write the files of a new service.

    Args:
        name: the service's.
        folder: where they go; made, and must hold nothing yet.

    Returns:
        The files written.

    Raises:
        BadInput: the name cannot be one, or the folder holds something.
        StepFailed: a file cannot be written.
    """
    module = _module(checked_name(name))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already and is not an empty folder; name another by --folder")
    files = {
        f"{module}/__init__.py": "",
        f"{module}/__main__.py": "main.py",
        f"{module}/service.py": "service.py",
        f"tests/test_{module}.py": "test.py",
        "Dockerfile": "Dockerfile",
        "README.md": "README.md",
    }
    said = {"name": name, "module": module, "upper": module.upper(), "version": platform_version(), "dollar": "$"}
    try:
        for path, template in files.items():
            whole = folder / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(_text(template, said) if template else "", encoding="utf-8")
    except OSError as error:
        raise StepFailed(f"{folder} cannot be written: {error.strerror}") from error
    return tuple(folder / path for path in files)


def declaration_of(name: str, folder: Path) -> Mapping[str, str]:
    """What is declared of a project.

    Args:
        name: the service's.
        folder: the project's.

    Raises:
        BadInput: there is no such service in it.
    """
    module = _module(checked_name(name))
    if not (folder / module / "__main__.py").is_file():
        raise BadInput(
            f"{folder} holds no service {name}: there is no {module}/__main__.py; `tekup new-service` makes one"
        )
    return {"module": module, "folder": str(folder.resolve())}


def _module(name: str) -> str:
    return name.replace("-", "_")


def _text(template: str, said: Mapping[str, str]) -> str:
    return Template((TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(said)
