"""What was declared in an environment: one file a bridged server, one file a secret, all private.

The form of a declaration is the bridge's (docs/contracts.md, "A bridge's declaration"), which also judges it: here it
is a mapping that is written down.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.local.errors import BadInput, StepFailed
from compose.local.files import PRIVATE, write_atomically
from compose.local.layout import Layout

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED = ("bridge", "browser", "consul", "control-plane", "filesystem", "gate", "hub", "search", "tekup", "tools")
_FOLDER = "bridges"


@dataclass(frozen=True)
class Declared:
    """One declared server.

    Attributes:
        name: the service's.
        path: where its declaration lies.
        content: what it says.
    """

    name: str
    path: Path
    content: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The service's version, "" for the platform's own."""
        return str(self.content.get("version", ""))

    @property
    def module(self) -> str:
        """The package of a service of one's own, "" for a bridged server."""
        return str(self.content.get("module", ""))

    @property
    def folder(self) -> str:
        """Where that package lies."""
        return str(self.content.get("folder", ""))

    @property
    def port_name(self) -> str:
        """Under which its first instance's port is remembered."""
        return f"bridge-{self.name}"

    @property
    def digest(self) -> str:
        """Tells two declarations apart."""
        return hashlib.sha256(_text(self.content).encode()).hexdigest()[:16]


def declared(layout: Layout) -> tuple[Declared, ...]:
    """Everything that was declared in an environment, by name; what cannot be read is left out, and said by `up`."""
    found = []
    for path in sorted((layout.state / _FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and NAME.fullmatch(path.stem) and path.stem not in RESERVED:
            found.append(Declared(path.stem, path, content))
    return tuple(found)


def find_declared(layout: Layout, name: str) -> Declared:
    """One that was declared.

    Raises:
        BadInput: none of this name was.
    """
    known = {one.name: one for one in declared(layout)}
    if name not in known:
        there = ", ".join(known) or "none"
        raise BadInput(f"there is no added server {name!r}; there are: {there}")
    return known[name]


def checked_name(name: str) -> str:
    """A name that a service can have.

    Raises:
        BadInput: it cannot.
    """
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name[:40]!r} is no name of a service: a letter, then up to 31 small letters, digits and dashes"
        )
    if name in RESERVED:
        raise BadInput(f"{name} is a name of the platform's own; choose another")
    return name


def write_declaration(layout: Layout, name: str, content: Mapping[str, Any], secrets: Mapping[str, str]) -> Declared:
    """Write a declaration down, its secrets each into a private file of its own.

    Args:
        layout: the environment.
        name: the service's.
        content: the declaration; `env_files` and `header_files` are completed.
        secrets: `env/NAME` or `header/NAME` → value.
    """
    checked_name(name)
    folder = secrets_of(layout, name)
    files: dict[str, dict[str, str]] = {}
    for place, value in secrets.items():
        kind, _, variable = place.partition("/")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        path = folder / f"{kind}-{_file_name(variable)}"
        write_atomically(path, value, PRIVATE)
        files.setdefault(f"{kind}_files", {})[variable] = str(path)
    whole = {**content, "name": name}
    for member, found in files.items():
        whole[member] = {**whole.get(member, {}), **found}
    path = layout.state / _FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    write_atomically(path, _text(whole), PRIVATE)
    return Declared(name, path, whole)


def remove_declaration(layout: Layout, one: Declared) -> None:
    """Remove a declaration and its secrets.

    Raises:
        StepFailed: a file cannot be removed.
    """
    try:
        one.path.unlink(missing_ok=True)
        shutil.rmtree(secrets_of(layout, one.name), ignore_errors=True)
    except OSError as error:
        raise StepFailed(f"{one.path} cannot be removed: {error.strerror}") from error


def secrets_of(layout: Layout, name: str) -> Path:
    """Where the secrets of a declared server lie."""
    return layout.secrets / _FOLDER / name


def names(ones: Iterable[Declared]) -> tuple[str, ...]:
    """Their names."""
    return tuple(one.name for one in ones)


def _file_name(variable: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", variable)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
