"""One backup as a file: a compressed tar, its manifest first, encrypted as a whole.

Reading believes nothing: each entry has to stand in the manifest, once, with its length and digest, and nothing may be
missing. What was read lies in a folder of its own until all of it is known to be right.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from compose.local.errors import StepFailed
from compose.local.files import PRIVATE

from .key import decrypt, encrypt
from .manifest import MANIFEST, BackupRefused, Manifest, Part, is_safe, read_manifest

CHUNK_BYTES = 1 << 20
LEVEL = 3
MOST_MANIFEST_BYTES = 256 << 20


def part_of(path: Path) -> Part:
    """What a manifest says of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Part(sha256=digest.hexdigest(), size_bytes=size, mode=path.stat().st_mode & 0o7777)


def write(manifest: Manifest, files: Path, folder: Path, key: Path) -> Path:
    """Write an archive, which is there whole or not at all.

    Args:
        manifest: What it holds.
        files: Where that lies, each part under its name.
        folder: Where the archive goes.
        key: Whose key opens it.

    Returns:
        The archive.

    Raises:
        StepFailed: The folder cannot be written.
    """
    plain, temporary = files.with_name(f"{files.name}.tar.gz"), folder / f".{manifest.name}.tmp"
    try:
        with tarfile.open(plain, "w:gz", compresslevel=LEVEL) as tar:
            raw = manifest.model_dump_json().encode()
            head = tarfile.TarInfo(MANIFEST)
            head.size, head.mode = len(raw), PRIVATE
            tar.addfile(head, io.BytesIO(raw))
            for name in manifest.parts:
                tar.add(files / name, name, recursive=False)
        encrypt(plain, temporary, key)
        temporary.chmod(PRIVATE)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        return temporary.rename(folder / manifest.name)
    except OSError as error:
        raise StepFailed(f"the backup could not be written to {folder}: {error.strerror or error}") from error
    finally:
        plain.unlink(missing_ok=True)
        temporary.unlink(missing_ok=True)


def read(archive: Path, key: Path, into: Path, platform: str) -> Manifest:
    """Read an archive and check all of it.

    Args:
        archive: The file.
        key: What opens it.
        into: An empty folder; each part lies there under its name afterwards.
        platform: This platform's version.

    Returns:
        What it holds.

    Raises:
        BackupRefused: It is damaged, foreign or newer.
    """
    plain = into / ".plain.tar.gz"
    decrypt(archive, plain, key)
    try:
        with tarfile.open(plain, "r:gz") as tar:
            return _checked(tar, into, archive.name, platform)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BackupRefused(f"{archive.name} is damaged ({error}); nothing was touched") from error
    finally:
        plain.unlink(missing_ok=True)


def unpack(tar: tarfile.TarFile, into: Path) -> None:
    """Unpack what passes between an environment's containers and this machine; Python's own filters are newer than
    the Python of the images.

    Raises:
        StepFailed: It holds something else than the files of a backup.
    """
    for entry in tar:
        if not entry.isreg() or not (entry.name == MANIFEST or is_safe(entry.name)):
            raise StepFailed(f"{entry.name!r} is no part of a backup")
        _extracted(tar, entry, into / entry.name)


def _checked(tar: tarfile.TarFile, into: Path, name: str, platform: str) -> Manifest:
    entries = iter(tar)
    manifest = _manifest(tar, next(entries, None), name)
    manifest.check(platform)
    missing = dict(manifest.parts)
    for entry, part in _parts(entries, missing, name):
        if _extracted(tar, entry, into / entry.name) != part.sha256 or entry.size != part.size_bytes:
            raise BackupRefused(f"{name} is damaged: {entry.name} is not what was backed up; nothing was touched")
    if missing:
        raise BackupRefused(f"{name} is damaged: {min(missing)} is missing; nothing was touched")
    return manifest


def _manifest(tar: tarfile.TarFile, entry: tarfile.TarInfo | None, name: str) -> Manifest:
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > MOST_MANIFEST_BYTES:
        raise BackupRefused(f"{name} is no backup of TekUp MCP: it begins with no {MANIFEST}; nothing was touched")
    file = tar.extractfile(entry)
    return read_manifest(file.read() if file else b"")


def _parts(
    entries: Iterator[tarfile.TarInfo], missing: dict[str, Part], name: str
) -> Iterator[tuple[tarfile.TarInfo, Part]]:
    for entry in entries:
        part = missing.pop(entry.name, None)
        if part is None or not entry.isreg():
            raise BackupRefused(f"{name} holds {entry.name}, which its manifest does not name; nothing was touched")
        yield entry, part


def _extracted(tar: tarfile.TarFile, entry: tarfile.TarInfo, to: Path) -> str:
    digest = hashlib.sha256()
    to.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(entry)
    if source is None:
        raise BackupRefused(f"{entry.name} is no file; nothing was touched")
    with to.open("xb") as target:
        os.fchmod(target.fileno(), PRIVATE)
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    os.utime(to, (entry.mtime, entry.mtime))
    return digest.hexdigest()
