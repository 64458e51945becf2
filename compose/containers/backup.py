"""Backups of an environment of containers on this machine: the same archives, keys and checks as of a local one.

Archives and their key stay outside of the containers. What goes into an archive, and out of it, passes through a
container with the environment's volumes (`saved`).
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from compose.backup.archive import read, unpack, write
from compose.backup.create import Taken, known_revocations, write_revocations
from compose.backup.kept import prune
from compose.backup.key import make_key
from compose.backup.manifest import MANIFEST, SNAPSHOT, read_manifest
from compose.backup.restore import Restored, take_keys_back
from compose.local.backup_settings import BackupSettings
from compose.local.errors import BadInput, LocalError, StepFailed
from compose.local.platform_table import package_version
from compose.local.progress import Reporter, Silent

from .command import COMMAND_S, Compose, said
from .deploy import plane

__all__ = ["compose_of", "create", "restore", "workspace_of"]

CALL_S = 20.0
UP = ("up", "--detach", "--no-build")


def create(compose: Compose, folder: Path, key: Path, kept: BackupSettings) -> Taken:
    """Take a backup of a running environment; older ones that nobody needs any more are deleted.

    Args:
        compose: The environment.
        folder: Where archives lie.
        key: The key's file, made where there is none.
        kept: How many are kept.

    Raises:
        LocalError: A part of it cannot be backed up.
    """
    began_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new_key = make_key(key)
    with tempfile.TemporaryDirectory(prefix=".tekup-backing-up-", dir=folder) as scratch:
        files, packed = Path(scratch, "files"), Path(scratch, "packed.tar")
        files.mkdir()
        with packed.open("wb") as out:
            _run(compose, "give", out=out)
        with tarfile.open(packed) as tar:
            unpack(tar, files)
        packed.unlink()
        manifest = read_manifest((files / MANIFEST).read_bytes())
        path = write(manifest, files, folder, key)
    deleted = prune(folder, manifest.environment, daily=kept.backup_keep_daily, weekly=kept.backup_keep_weekly)
    untold = ""
    try:
        api = plane(compose, Silent(), CALL_S)
        api.backed_up(path.name, manifest.taken, path.stat().st_size)
        write_revocations(folder, manifest.environment, api)
    except (LocalError, OSError) as error:
        untold = str(error)
    return Taken(path, manifest, time.monotonic() - began_s, deleted, new_key, untold)


def restore(
    compose: Compose, archive: Path, key: Path, report: Reporter, *, trust_keys: bool, timeout_s: float
) -> Restored:
    """Put an environment back, up to its control plane and without a gate's agent; `up` starts the rest.

    Everything is read and checked before anything is touched.

    Args:
        compose: The environment; its volumes have to be empty.
        archive: The backup.
        key: What opens it.
        report: Told what is going on.
        trust_keys: Keys that are not known to be revoked stay good.
        timeout_s: The most to wait for the gates of before to be gone.

    Raises:
        BackupRefused: The backup is damaged, foreign or newer; nothing was touched.
        LocalError: There is an environment, or what went wrong later.
    """
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tekup-restoring-") as folder:
        files = Path(folder)
        report.update("restore", "reading and checking the backup")
        manifest = read(archive, key, files, package_version())
        (files / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        if running := [str(one["Service"]) for one in compose.containers() if one["State"] == "running"]:
            raise BadInput(f"{', '.join(sorted(running))} run here; `docker compose down` first. Nothing was touched")
        report.update("restore", "putting files in place")
        _run(compose, "put", given=_tar(files, (MANIFEST, *(name for name in manifest.parts if name != SNAPSHOT))))
        report.update("restore", "Consul takes over the snapshot")
        compose.run(*UP, "consul")
        _run(compose, "take-over", given=_tar(files, (SNAPSHOT,)))
    report.update("restore", "looking at keys")
    compose.run(*UP, "control-plane")
    known_at, revoked = known_revocations(archive.parent, manifest.environment)
    count = take_keys_back(
        plane(compose, report, timeout_s), sorted(revoked) if trust_keys else None, report, timeout_s
    )
    report.finish("restore", "done")
    lost_s = max(0.0, time.time() - manifest.taken)
    return Restored(manifest, count, known_at, trust_keys, time.monotonic() - began_s, lost_s)


def compose_of(kind: str) -> Compose:
    """An environment on this machine, at the version that the shell names by VERSION, as for `docker compose`."""
    return Compose(kind, os.environ.get("VERSION", "latest"))


def workspace_of(compose: Compose) -> Path:
    """Where an environment's workspace lies on this machine.

    Raises:
        StepFailed: The engine does not tell.
    """
    told = json.loads(compose.run("config", "--format", "json"))
    mounts = told["services"]["mcp-filesystem"]["volumes"]
    found = next(one for one in mounts if one["target"] == "/workspace")
    if found["type"] == "bind":
        return Path(found["source"])
    name = told["volumes"][found["source"]]["name"]
    asked = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name]
    return Path(said(asked, env=compose.env, timeout_s=CALL_S).strip())


def _tar(files: Path, names: Iterable[str]) -> IO[bytes]:
    """Some of a folder's files as a tar, to be read from its start."""
    packed = tempfile.TemporaryFile(dir=files)  # noqa: SIM115 (closed by who reads it)
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in names:
            tar.add(files / name, name, recursive=False)
    packed.seek(0)
    return packed


def _run(compose: Compose, step: str, *, given: IO[bytes] | None = None, out: IO[bytes] | None = None) -> None:
    """Run a step in a container with the environment's volumes.

    Raises:
        StepFailed: It failed; has what it said.
    """
    command = [*compose.command, "run", "--rm", "--no-deps", "--quiet-pull", "-T", "backup", "compose.containers", step]
    try:
        done = subprocess.run(
            command, env=compose.env, stdin=given or subprocess.DEVNULL, stdout=out or subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=COMMAND_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"`{step}` in the environment took longer than {COMMAND_S:.0f} s") from error
    finally:
        if given:
            given.close()
    if done.returncode != 0:
        last = _last(done.stderr.decode(errors="replace").splitlines())
        raise StepFailed(f"`{step}` in the environment failed: {last}")


def _last(lines: Sequence[str]) -> str:
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("Container", "Network"))]
    return " ".join(told[-3:]) or "it said nothing"
