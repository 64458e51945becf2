"""The gate's folder as the agent uses it: the three files it writes, the secrets it reads, and its own memory."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from control_plane.agent.believe import Memory
from control_plane.agent.beside import large, merged
from control_plane.errors import Refused
from control_plane.files import read_json, write_whole
from control_plane.model import Instance

Json = Mapping[str, object]
Identity = tuple[int, int, int]
ROUTES = "routes.yml"
IDENTITY = "identity.yml"
CHANGES = "clients-changes"
# Whatever else lies in the watched folder is read by Traefik too, and one bad file there blocks every later write.
OURS = frozenset({"gate.yml", "tls.yml", "oauth.yml", "operators.yml", ROUTES, IDENTITY})


@dataclass(frozen=True)
class Remembered:
    """What the agent had in force when it last ran."""

    memory: Memory
    instances: tuple[Instance, ...]


REMEMBERED = TypeAdapter(Remembered)


class GateFolder:
    """One gate's folder; see ``docs/contracts.md`` for what lies where.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._dynamic = root / "dynamic"
        self._tables = root / "tables"
        self._memory = root / "agent.json"
        self._ours: dict[str, Identity | None] = {}
        self._tables.mkdir(parents=True, exist_ok=True)
        self._dynamic.mkdir(parents=True, exist_ok=True)

    def claim(self) -> None:
        """Make this process the only agent of the folder, for its lifetime.

        Raises:
            Refused: Another agent has it.
        """
        self._lock = (self._tables / ".agent.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"another agent runs on {self._tables.parent}; stop it first") from error

    def sweep(self) -> tuple[str, ...]:
        """Remove configuration files that are nobody's; returns their names."""
        strays = [path for path in self._dynamic.glob("*.y*ml") if path.name not in OURS]
        for path in strays:
            path.unlink()
        return tuple(sorted(path.name for path in strays))

    def mac_key(self) -> bytes:
        """The gate's current MAC key.

        Raises:
            Refused: The secrets file is missing or makes no sense.
        """
        path = self._tables / "secrets.json"
        keys = read_json(path).get("mac")
        try:
            if isinstance(keys, list):
                return bytes.fromhex(keys[0])
        except (IndexError, TypeError, ValueError):
            pass
        raise Refused(f"{path} holds no MAC key; the environment writes it before the agent starts")

    def routes(self) -> Json:
        """The routes in force."""
        self._own("routes")
        try:
            found = yaml.safe_load(self._path("routes").read_text())
        except (FileNotFoundError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_routes(self, routes: Json) -> None:
        """Put routes in place; Traefik's watcher takes them up.

        Raises:
            Refused: Something in them would be run as a template.
        """
        # JSON is YAML, and is written ten times as fast.
        text = json.dumps(routes, indent=1)
        if "{{" in text:
            raise Refused("the routes hold '{{', which Traefik would run as a template; they are not written")
        write_whole(self._path("routes"), text.encode())
        self._own("routes")

    def identity(self) -> Json:
        """The mutual TLS in force; empty if there is none."""
        self._own("identity")
        return read_json(self._path("identity"))

    def write_identity(self, identity: Json) -> None:
        """Put mutual TLS in place; with an empty one there is none."""
        if identity:
            write_whole(self._path("identity"), json.dumps(identity, indent=1).encode())
        else:
            self._path("identity").unlink(missing_ok=True)
        self._own("identity")

    def touched(self) -> tuple[str, ...]:
        """Which of ``routes``, ``services``, ``clients`` and its changes somebody else has changed or deleted since.

        Traefik and the plugin keep the last good file, so a bad one shows only when they start again.
        """
        return tuple(name for name, identity in self._ours.items() if self._identity(name) != identity)

    def table(self, name: str) -> dict[str, object]:
        """A table as it lies on disk; empty if there is none."""
        self._own(name)
        if name == "clients":
            self._own(CHANGES)
        return self._table(name)

    def _table(self, name: str) -> dict[str, object]:
        found = read_json(self._path(name))
        return merged(found, read_json(self._path(CHANGES))) if name == "clients" else found

    def write_table(self, name: str, table: Json) -> None:
        """Put a table in place; the plugin takes it up within its polling interval."""
        changing = name == "clients" and large(table)
        if changing:
            table = {**table, "changes": True}
            self._prepare_changes(table)
        # As `json.dumps` writes it, in a tenth of the time: the table of 10,000 clients has 5 MB.
        write_whole(self._path(name), to_json(table), mode=0o600)
        self._own(name)
        if name == "clients" and not changing:
            self._path(CHANGES).unlink(missing_ok=True)
            self._own(CHANGES)

    def _prepare_changes(self, table: Json) -> None:
        """Have a file of changes beside a whole table: without any it counts for nothing."""
        base, serial = read_json(self._path(CHANGES)).get("base"), table["serial"]
        if not (isinstance(base, int) and isinstance(serial, int) and base < serial):
            self.write_changes({**table, "base": serial, "clients": {}, "keys": {}})

    def write_changes(self, changes: Json) -> None:
        """Put beside ``clients.json`` what has changed since; see :mod:`control_plane.agent.beside`."""
        write_whole(self._path(CHANGES), to_json(changes), mode=0o600)
        self._own(CHANGES)

    def confirm(self, at_s: float) -> None:
        """Say until when the tables were known to be what was decided; a gate can be told to refuse after a while.

        Args:
            at_s: Seconds since the epoch.
        """
        path = self._tables / "confirmed"
        path.touch(mode=0o600)
        os.utime(path, (at_s, at_s))

    def recall(self) -> Remembered:
        """What was in force when the agent last ran, and what only the tables tell of it.

        They are written before a change is in force, the memory may be after it, missing or damaged.
        """
        try:
            found = REMEMBERED.validate_json(self._memory.read_bytes())
        except (FileNotFoundError, ValidationError):
            found = Remembered(Memory(None, {}), ())
        clients = self._table("clients")
        seen = max(_place(clients), _place(self._table("services")))
        memory = replace(found.memory, revoked={**found.memory.revoked, **_revoked(clients)}, seen=seen)
        return replace(found, memory=memory)

    def remembers(self) -> bool:
        """Whether there is anything to recall."""
        return self._memory.exists()

    def remember(self, remembered: Remembered) -> None:
        """Keep what is in force for the next start."""
        write_whole(self._memory, REMEMBERED.dump_json(remembered), mode=0o600)

    def _path(self, name: str) -> Path:
        dynamic = {"routes": ROUTES, "identity": IDENTITY}.get(name)
        return self._dynamic / dynamic if dynamic else self._tables / f"{name}.json"

    def _own(self, name: str) -> None:
        self._ours[name] = self._identity(name)

    def _identity(self, name: str) -> Identity | None:
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _revoked(clients: Json) -> dict[str, int]:
    keys = clients.get("keys")
    held = keys.items() if isinstance(keys, dict) else ()
    return {key: int(what["revoked"]) for key, what in held if isinstance(what, dict) and what.get("revoked")}


def _place(table: Json) -> tuple[int, int]:
    epoch, number = table.get("epoch"), table.get("number")
    return (epoch, number) if isinstance(epoch, int) and isinstance(number, int) else (0, 0)
