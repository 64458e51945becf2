"""The process table: everything the supervisor knows about what it runs, as data.

The supervisor has no idea what Consul or a browser service is; whoever writes the table has (see
`platform_table.py`, and the tests, which give it tables of their own). In `argv`, `env` and `ready`, these stand
for a value of the running process: `{name}`, `{instance}` (6 hex digits, new at each start), `{version}`, `{port}`.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import LocalError
from .files import PRIVATE, write_atomically


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ready(_Data):
    """A process is ready when this URL answers 200 and the body holds the text."""

    url: str
    contains: str = ""
    token_file: str = ""
    """Consul's token to ask with; read at each look, since it is rotated."""
    why: str = ""
    """Where it says itself why it is not ready, as `reason` in JSON."""


class Process(_Data):
    """One process, or the pattern for the instances of a service."""

    name: str
    group: str
    """What `after` of others refers to, and what `status` sorts by."""
    argv: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str = ""
    ready: Ready | None = None
    """Without a condition, a process counts as ready once it runs."""
    after: tuple[str, ...] = ()
    """Groups that must be ready before it is first started, and that are stopped only after it."""
    stop_s: float = 5.0
    """From TERM to KILL."""
    failing_s: float = 0
    """One that was ready, and whose condition is denied for so long, is restarted; 0: never. No answer is no denial."""
    url: str = ""
    """Where it listens, for people."""


class Service(_Data):
    """A service: the pattern its instances are made from."""

    name: str
    version: str
    """The version of its first instance."""
    port: int
    """The port of its first instance; all others take free ones."""
    pattern: Process


class LogBounds(_Data):
    """How much of each process's log is kept."""

    largest_bytes: int = 10 << 20
    """A file beyond it is cut."""
    kept: int = 1
    """How many cut-off parts stay, the last one as `<name>.log.1`."""


class Table(_Data):
    """All processes of an environment."""

    processes: tuple[Process, ...] = ()
    services: tuple[Service, ...] = ()
    logs: LogBounds = LogBounds()

    def service(self, name: str) -> Service | None:
        """A service by name."""
        return next((service for service in self.services if service.name == name), None)

    def text(self) -> str:
        """The table as JSON; equal tables give equal text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def digest(self) -> str:
        """Tells two tables apart."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def write_table(path: Path, table: Table) -> None:
    """Put the table where the supervisor reads it; private, because `env` may hold what is."""
    write_atomically(path, table.text(), PRIVATE)


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        LocalError: it is missing or no table.
    """
    try:
        return Table.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise LocalError(f"{path} is not a process table: {error}") from error


def filled(text: str, values: dict[str, str]) -> str:
    """Replace the placeholders that are known; any other brace stays as it is."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text
