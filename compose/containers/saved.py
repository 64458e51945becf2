"""Inside an environment of containers: hands out what a backup holds, and puts it back where there is none.

Each step is a container of its own that `tekup backup … --of KIND` runs (`compose.containers.backup`); what it hands
out and takes goes through its standard output and input as a tar, so that neither archives nor their key come here.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose.backup import snapshot
from compose.backup.archive import unpack
from compose.backup.create import aside
from compose.backup.gather import gather
from compose.backup.manifest import MANIFEST, SNAPSHOT, read_manifest
from compose.backup.restore import put_in_place
from compose.backup.site import Site
from compose.local.authority import CA
from compose.local.consul_acl import CONSUL
from compose.local.consul_config import NODE_ID
from compose.local.errors import BadInput, StepFailed

from .places import Here

__all__ = ["give", "put", "take_over"]

THERE = ("secrets", "operator.token", "backup.id")


def site_of(here: Here) -> Site:
    """Where the parts of an environment of containers are mounted."""
    # Consul knows its own servers by these: with others it would take itself for somebody who has their name.
    nodes = {f"nodes/{name}": here.given.parent / "data" / name / NODE_ID for name in (CONSUL, *here.servers)}
    ca = here.layout.consul_authority / CA if here.servers else None
    return Site(here.layout, here.workspace, nodes, ca)


def give(here: Here) -> None:
    """Write what a backup holds to standard output, its manifest first.

    Raises:
        LocalError: A part of it cannot be backed up.
    """
    if not here.layout.operator_token.exists():
        raise BadInput("there is no environment to back up; `docker compose up -d` makes one")
    with aside(here.layout) as files:
        manifest = gather(site_of(here), here.consul_url(), here.settings, files)
        (files / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
            for name in (MANIFEST, *manifest.parts):
                tar.add(files / name, name, recursive=False)
    sys.stdout.buffer.flush()


def put(here: Here) -> None:
    """Put what comes by standard input where it belongs; it was checked before.

    Raises:
        BadInput: There is an environment.
        StepFailed: What comes makes no sense.
    """
    site = site_of(here)
    there = [name for name in THERE if _holds(here.layout.state / name)] + ["workspace"] * _holds(here.workspace)
    if there:
        raise BadInput(
            f"the volumes hold {', '.join(there)}: a backup is restored only where there is no environment; `docker"
            " compose down -v` removes one, a folder of MCP_WORKSPACE is moved away by you"
        )
    with _taken(here.layout.directory) as files:
        put_in_place(site, read_manifest((files / MANIFEST).read_bytes()), files)


def take_over(here: Here) -> None:
    """Have Consul take over the snapshot that comes by standard input.

    Raises:
        StepFailed: It does not.
    """
    with _taken(Path(tempfile.gettempdir())) as files:
        snapshot.put_back(site_of(here), here.consul_url(), files / SNAPSHOT)


def _holds(path: Path) -> bool:
    if not path.is_dir():
        return path.exists()
    return any(one.is_file() or one.is_symlink() for one in path.rglob("*"))


@contextmanager
def _taken(where: Path) -> Iterator[Path]:
    """A folder with what came, gone after the block."""
    with tempfile.TemporaryDirectory(prefix=".taken-", dir=where) as folder:
        files = Path(folder)
        try:
            with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
                unpack(tar, files)
        except (tarfile.TarError, OSError) as error:
            raise StepFailed(f"what came cannot be read: {error}") from error
        yield files
