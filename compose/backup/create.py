"""Takes a backup of a running environment."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compose.local.errors import LocalError
from compose.local.files import write_atomically
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.operators_api import OperatorsApi, first_to_answer
from compose.local.settings import Settings, load

from .archive import write
from .gather import backup_id, gather
from .kept import prune
from .key import key_file, make_key
from .manifest import Manifest
from .site import Site

CALL_S = 10.0


@dataclass(frozen=True)
class Taken:
    """A backup that was taken.

    Attributes:
        path: The archive.
        manifest: What it holds.
        seconds: How long it took.
        deleted: Names of older ones that were deleted.
        new_key: Whether the key was made for it.
        untold: Why the control plane could not be told, "" if it was.
    """

    path: Path
    manifest: Manifest
    seconds: float
    deleted: tuple[str, ...]
    new_key: bool
    untold: str = ""


def folder_of(layout: Layout, settings: Settings) -> Path:
    """Where an environment's backups lie."""
    return Path(settings.backup_folder) if settings.backup_folder else layout.directory / "tekup-backups"


def create(layout: Layout) -> Taken:
    """Take a backup; older ones that nobody needs any more are deleted. `alone` has to be held.

    Raises:
        NotRunning: The environment does not run.
        LocalError: A part of it cannot be backed up, with what to do.
    """
    began_s = time.monotonic()
    status = Link(layout).status()
    settings = load(layout).settings
    folder = folder_of(layout, settings)
    # As it runs: it may have been started with other settings than are in force here.
    url = next(process.url for process in status.processes if process.name == "consul")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = key_file(settings.backup_key_file)
    new_key = make_key(key)
    with aside(layout) as files:
        manifest = gather(Site.local(layout), url, settings, files)
        path = write(manifest, files, folder, key)
    deleted = prune(folder, manifest.environment, daily=settings.backup_keep_daily, weekly=settings.backup_keep_weekly)
    untold = ""
    try:
        answer = first_to_answer(layout, status.processes, CALL_S)
        if answer is None:
            untold = "no control plane runs"
        else:
            answer[0].backed_up(path.name, manifest.taken, path.stat().st_size)
            note_revocations(layout, answer[0], folder)
    except (LocalError, OSError) as error:
        untold = str(error)
    return Taken(path, manifest, time.monotonic() - began_s, deleted, new_key, untold)


@contextmanager
def aside(layout: Layout) -> Iterator[Path]:
    """A folder in the environment to copy to, gone after the block."""
    for left in layout.state.glob("backing-up-*"):  # of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="backing-up-", dir=layout.state))
    try:
        files = folder / "files"
        files.mkdir()
        yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def revocations_file(folder: Path, environment: str) -> Path:
    """Where it is written down which keys are revoked, beside the backups and newer than they."""
    return folder / f"tekup-revocations-{environment}.json"


def note_revocations(layout: Layout, api: OperatorsApi, folder: Path) -> None:
    """Write down which keys are revoked: a backup from before must not bring them back.

    Raises:
        LocalError: The control plane does not tell.
        OSError: It cannot be written.
    """
    write_revocations(folder, backup_id(layout), api)


def write_revocations(folder: Path, environment: str, api: OperatorsApi) -> None:
    """The same of an environment by its name in backups.

    Raises:
        LocalError: The control plane does not tell.
        OSError: It cannot be written.
    """
    told = {"environment": environment, "at": time.time(), "revoked": api.revoked_keys()}
    write_atomically(revocations_file(folder, environment), json.dumps(told, indent=1) + "\n", 0o600)


def known_revocations(folder: Path, environment: str) -> tuple[float, dict[str, int]]:
    """What was written down of it last, and when; 0 and nothing where there is nothing to read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json.loads(revocations_file(folder, environment).read_text(encoding="utf-8"))
        return float(told["at"]), {str(key): int(at) for key, at in told["revoked"].items()}
    return 0.0, {}
