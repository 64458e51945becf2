"""`tekup backup create | list | verify | restore`."""

from __future__ import annotations

import asyncio
import datetime
import textwrap
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from compose.local import show
from compose.local.errors import BadInput
from compose.local.layout import Layout
from compose.local.programs import NEEDED, Found, Resolver
from compose.local.progress import Reporter, reporter
from compose.local.settings import load
from compose.local.typed import typed
from compose.local.up import alone

from .create import Taken, create, folder_of
from .kept import taken_at
from .key import key_file
from .manifest import Manifest
from .restore import Restored, refuse_environment, restore, verify

backup = typer.Typer(no_args_is_help=True, help="Backups of this environment, encrypted, and the way back.")
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Of = Annotated[
    Literal["dev", "staging", "prod"] | None, typer.Option("--of", help="An environment of containers on this machine.")
]
Archive = Annotated[str, typer.Argument(help="Its path, its name, or `latest`.")]


@backup.command("create")
def backup_create(of: Of = None, json: JsonFlag = False) -> None:
    """Take a backup of the running environment. Calls go on; writers of files wait for a moment.

    Example: tekup backup create

    Example: tekup backup create --of prod
    """
    layout = Layout(Path.cwd())
    with reporter() as report, alone(layout, report):
        report.update("backup", "copying")
        taken = create(layout) if of is None else _create_of(layout, of)
        report.over("backup")
    if json:
        show.as_json(_told(taken.manifest, taken.path) | {"seconds": taken.seconds, "deleted": list(taken.deleted)})
        return
    _print_taken(taken, key_file(load(layout).settings.backup_key_file))


def _create_of(layout: Layout, kind: str) -> Taken:
    # what is asked of an engine takes time to import
    from compose.containers import backup as containers  # noqa: PLC0415

    settings = load(layout).settings
    return containers.create(
        containers.compose_of(kind), folder_of(layout, settings), key_file(settings.backup_key_file), settings
    )


def _print_taken(taken: Taken, key: Path) -> None:
    size = taken.path.stat().st_size
    _say(f"{taken.path}: {size:,} bytes after {taken.seconds:.1f} s, {_moment(taken.manifest)}")
    for sentence in taken.manifest.left_out:
        _say(f"not in it: {sentence}")
    for name in taken.deleted:
        _say(f"deleted, since newer ones are enough: {name}")
    if taken.new_key:
        _say(f"A key was made: {key}. Keep a copy on another machine: without it no backup can be opened.")
    if taken.untold:
        _say(f"The control plane could not be told, so its age is not watched: {taken.untold}")


def _moment(manifest: Manifest) -> str:
    if manifest.whole:
        return f"all of one moment; writers of files waited {manifest.held_s:.2f} s"
    return (
        f"files not of one moment: there are too many to copy in {manifest.held_s:.1f} s, the longest writers may wait"
    )


@backup.command("list")
def backup_list(json: JsonFlag = False) -> None:
    """List the backups there are, the newest first; they are not opened.

    Example: tekup backup list
    """
    found = [(path, at, path.stat().st_size) for path, at in _found(Layout(Path.cwd()))]
    if json:
        show.as_json([{"name": path.name, "path": str(path), "taken": at, "size_bytes": size}
                      for path, at, size in found])  # fmt: skip
        return
    if not found:
        typer.echo(typed("No backup yet; `tekup backup create` takes one."))
        return
    show.table(("BACKUP", "AGE", "BYTES"), [(path.name, show.age(at), f"{size:,}") for path, at, size in found])


@backup.command("verify")
def backup_verify(archive: Archive = "latest", json: JsonFlag = False) -> None:
    """Open a backup and check every part of it; changes nothing.

    Example: tekup backup verify latest
    """
    layout = Layout(Path.cwd())
    path, began_s = _named(layout, archive), time.monotonic()
    manifest = verify(layout, path)
    if json:
        show.as_json(_told(manifest, path) | {"ok": True})
        return
    _say(
        f"{path.name} is whole: {len(manifest.parts)} files, revision {manifest.revision} of epoch {manifest.epoch},"
        f" TekUp MCP {manifest.platform}, taken {_at(manifest.taken)}; checked in {time.monotonic() - began_s:.1f} s"
    )


@backup.command("restore")
def backup_restore(
    archive: Archive = "latest",
    trust_keys: Annotated[
        bool, typer.Option("--trust-keys", help="Let keys be good that are not known to be revoked.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for processes, each time.")] = 120,
    of: Of = None,
    json: JsonFlag = False,
) -> None:
    """Put the environment of a backup into this directory, which must have none; then `tekup up`.

    Keys may have been revoked since the backup: without --trust-keys all of them come back revoked. Containers: their
    volumes must be empty, and `docker compose up -d` or `tekup deploy` starts the rest.

    Example: tekup backup restore latest --trust-keys

    Example: tekup backup restore latest --of prod
    """
    layout = Layout(Path.cwd())
    path = _named(layout, archive)
    if of is None:
        refuse_environment(layout)
    with reporter() as report, alone(layout, report):
        if of is None:
            done = restore(layout, path, _programs(layout, report), report, trust_keys=trust_keys, timeout_s=timeout)
        else:
            done = _restore_of(layout, of, path, report, trust_keys=trust_keys, timeout_s=timeout)
    if json:
        show.as_json(_told(done.manifest, path) | {
            "keys_revoked": done.keys_revoked, "revocations_known_until": done.revocations_at,
            "trusted": done.trusted, "seconds": done.seconds, "lost_s": done.lost_s})  # fmt: skip
        return
    _print_restored(done, "tekup up" if of is None else f"docker compose -f compose/docker-compose.{of}.yml up -d")


def _programs(layout: Layout, report: Reporter) -> dict[str, Found]:
    given = load(layout).settings.browser_executable
    return asyncio.run(Resolver(report).find_all(name for name in NEEDED if not (given and name == "chromium")))


def _restore_of(
    layout: Layout, kind: str, archive: Path, report: Reporter, *, trust_keys: bool, timeout_s: float
) -> Restored:
    from compose.containers import backup as containers  # noqa: PLC0415 (as above)

    key = key_file(load(layout).settings.backup_key_file)
    made = containers.compose_of(kind)
    return containers.restore(made, archive, key, report, trust_keys=trust_keys, timeout_s=timeout_s)


def _print_restored(done: Restored, then: str) -> None:
    _say(
        f"Restored in {done.seconds:.0f} s, as everything was {_at(done.manifest.taken)}. Lost is what was changed in"
        f" the {done.lost_s / 60:.1f} minutes since."
    )
    if not done.trusted:
        _say(
            f"All keys are revoked ({done.keys_revoked} were good then), since nobody knows which were revoked since:"
            " `tekup keys create CLIENT` makes new ones."
        )
    elif done.revocations_at > done.manifest.taken:
        _say(
            f"Keys are good as they were, but for {done.keys_revoked} that are known to be revoked since. What was"
            f" revoked after {_at(done.revocations_at)} is not known: revoke it again."
        )
    else:
        _say("Keys are good as they were then. What was revoked since is not known: revoke it again.")
    for sentence in done.manifest.left_out:
        _say(f"not in it: {sentence}")
    _say(f"Next: {then}")


def _say(text: str) -> None:
    """Print a sentence in 80 columns; paths stay whole."""
    filled = textwrap.fill(
        typed(text), show.WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
    typer.echo(filled)


def _found(layout: Layout) -> list[tuple[Path, float]]:
    """Backups and when each was taken, in seconds since the epoch, the newest first."""
    folder = folder_of(layout, load(layout).settings)
    found = folder.iterdir() if folder.is_dir() else ()
    taken = [(path, at.timestamp()) for path in found if (at := taken_at(path))]
    return sorted(taken, key=lambda one: -one[1])


def _named(layout: Layout, archive: str) -> Path:
    if archive == "latest":
        found = _found(layout)
        if not found:
            folder = folder_of(layout, load(layout).settings)
            raise BadInput(f"there is no backup in {folder}; name one by its path, or its folder by MCP_BACKUP_FOLDER")
        return found[0][0]
    path = Path(archive)
    inside = folder_of(layout, load(layout).settings) / archive
    return inside if not path.exists() and inside.exists() else path


def _told(manifest: Manifest, path: Path) -> dict[str, object]:
    shown = manifest.model_dump(mode="json", exclude={"parts", "links", "folders"})
    return {"path": str(path), "files": len(manifest.parts), **shown}


def _at(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
