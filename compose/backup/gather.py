"""What belongs to a backup, copied to one side: workspace and Consul at one moment, then what hardly ever changes."""

from __future__ import annotations

import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from compose.local.errors import StepFailed
from compose.local.files import write_atomically
from compose.local.layout import Layout
from compose.local.platform_table import package_version
from compose.local.settings import Settings

from . import snapshot
from .archive import part_of
from .hold import held
from .manifest import SETTINGS, SNAPSHOT, STATE, Manifest, Part
from .site import WORKSPACE, Site

CHUNK_BYTES = 8 << 20
KEPT = ("scale.json", "ports.json", "operator.token", "dev.key", "backup.id", "consul/node-id", "secrets", "tls",
        "gate/tables/secrets.json", "gate-2/tables/secrets.json", "levels", "drills")  # fmt: skip
"""Besides the workspace; all else in `.tekup` is made anew, or is history (logs, metrics, traces)."""


@dataclass
class Gathered:
    """What has been copied so far."""

    files: Path
    parts: dict[str, Part] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


def backup_id(layout: Layout) -> str:
    """The environment's name in backups; made with the first, and restored, unlike the mark of its processes."""
    path = layout.state / "backup.id"
    if not path.exists():
        write_atomically(path, secrets.token_hex(4) + "\n")
    return path.read_text(encoding="ascii").strip()


def gather(site: Site, url: str, settings: Settings, files: Path) -> Manifest:
    """Copy everything of a running environment.

    Args:
        site: The environment.
        url: Its Consul's.
        settings: Its settings.
        files: An empty folder to copy to.

    Returns:
        What there is.

    Raises:
        StepFailed: Consul gives no snapshot, or a file cannot be read.
    """
    layout = site.layout
    environment, datacenter = backup_id(layout), snapshot.datacenter(site, url)
    gathered = Gathered(files)
    with ExitStack() as hold:
        began_s = time.monotonic()
        until = hold.enter_context(held(site.workspace, settings.backup_hold_s))
        whole = until > 0
        if not whole:
            hold.close()
        taken_s = time.time()
        snapshot.save(site, url, files / SNAPSHOT)
        epoch, revision = snapshot.revision(site, url)
        held_s = time.monotonic() - began_s

        def tick() -> None:
            nonlocal whole, held_s
            if whole and time.monotonic() > until:
                hold.close()
                whole, held_s = False, time.monotonic() - began_s

        _copy(site.workspace, f"{STATE}{WORKSPACE}", gathered, tick)
        if whole:
            held_s = time.monotonic() - began_s
    for name in KEPT:
        _copy(layout.state / name, STATE + name, gathered, lambda: None)
    for name, path in site.more.items():
        _copy(path, STATE + name, gathered, lambda: None)
    _copy(layout.settings, SETTINGS, gathered, lambda: None)
    gathered.parts[SNAPSHOT] = part_of(files / SNAPSHOT)
    return Manifest(
        platform=package_version(),
        environment=environment,
        datacenter=datacenter,
        epoch=epoch,
        revision=revision,
        taken=taken_s,
        held_s=round(held_s, 3),
        whole=whole,
        parts=dict(sorted(gathered.parts.items())),
        links=gathered.links,
        folders=tuple(gathered.folders),
        left_out=tuple(_left_out(settings)),
    )


def _left_out(settings: Settings) -> Iterator[str]:
    for name, value in (
        ("MCP_FILESYSTEM_ROOTS", settings.filesystem_roots),
        ("MCP_SEARCH_ROOTS", settings.search_roots),
        ("MCP_API_KEY_ENCRYPTION_KEY_FILE", settings.api_key_encryption_key_file),
        ("MCP_OAUTH_ISSUERS_FILE", settings.oauth_issuers_file),
        ("MCP_TLS_CERT_FILE", settings.tls_cert_file),
        ("MCP_TLS_KEY_FILE", settings.tls_key_file),
    ):
        if value:
            yield f"{name} ({value}) lies outside of the environment: back it up by yourself"
    yield "log files, metrics and traces are not kept; search's index is made anew"


def _copy(source: Path, name: str, to: Gathered, tick: Callable[[], None]) -> None:
    """Copy a file, a link or a folder with all in it; what goes meanwhile is left out."""
    tick()
    try:
        found = source.lstat()
        if stat.S_ISDIR(found.st_mode):
            to.folders.append(name)
            for entry in sorted(source.iterdir()):
                _copy(entry, f"{name}/{entry.name}", to, tick)
        elif stat.S_ISLNK(found.st_mode):
            to.links[name] = str(source.readlink())
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, to.files / name, tick)
            to.parts[name] = part_of(to.files / name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StepFailed(f"{source} cannot be backed up: {error.strerror or error}") from error


def _copy_file(source: Path, target: Path, tick: Callable[[], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, target.open("xb") as copy:
        while chunk := file.read(CHUNK_BYTES):
            copy.write(chunk)
            tick()
    shutil.copystat(source, target)
