"""Puts an environment back from a backup, where there is none.

Nothing is touched before all of the backup was read and found right. Then: files into place, a Consul alone that takes
over the snapshot, a control plane beside it (and no gate) that takes keys back, everything stopped again. What goes
wrong on the way is undone; a restore that is killed leaves a half environment, which the next one refuses.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compose.local.credentials import gate_secrets_file, make_credentials
from compose.local.errors import BadInput
from compose.local.files import PRIVATE
from compose.local.layout import Layout
from compose.local.link import Link, start_supervisor, stop_supervisor
from compose.local.operators_api import OperatorsApi
from compose.local.parts import Parts
from compose.local.platform_table import ACL, package_version, platform_table, wanted_ports
from compose.local.ports import settled_ports
from compose.local.programs import Found
from compose.local.progress import Reporter, wait_for
from compose.local.ready import wait_until_ready
from compose.local.settings import CONTROL_PLANE, load, named_ports
from compose.local.table import write_table

from . import snapshot
from .archive import read
from .create import known_revocations
from .gather import KEPT
from .key import key_file
from .manifest import SETTINGS, SNAPSHOT, Manifest
from .site import Site

REASON = "restored from a backup"
STOP_S = 60.0
THERE = ("consul", "secrets", "operator.token", "gate", "workspace")
"""What an environment has that is not empty."""


@dataclass(frozen=True)
class Restored:
    """An environment that was put back.

    Attributes:
        manifest: From what.
        keys_revoked: How many keys are revoked that the backup shows as good.
        revocations_at: Until when revocations are known, 0 for not at all.
        trusted: Whether the other keys are good.
        seconds: How long it took.
        lost_s: How old the backup is: what was changed since is lost.
    """

    manifest: Manifest
    keys_revoked: int
    revocations_at: float
    trusted: bool
    seconds: float
    lost_s: float


def verify(layout: Layout, archive: Path) -> Manifest:
    """Read a backup and check all of it; touches nothing.

    Raises:
        BackupRefused: It is damaged, foreign or newer.
    """
    with tempfile.TemporaryDirectory(prefix="tekup-verify-") as folder:
        return read(archive, key_file(load(layout).settings.backup_key_file), Path(folder), package_version())


def restore(
    layout: Layout,
    archive: Path,
    programs: dict[str, Found],
    report: Reporter,
    *,
    trust_keys: bool,
    key: Path | None = None,
    timeout_s: float = 120.0,
) -> Restored:
    """Put an environment back.

    Args:
        layout: Where; no environment may be there.
        archive: The backup.
        programs: Consul, Traefik and the rest, found.
        report: Told what is going on.
        trust_keys: Keys that are not known to be revoked stay good.
        key: What opens the backup; None: what the settings say.
        timeout_s: The most to wait for the processes, each time.

    Raises:
        BadInput: There is an environment.
        BackupRefused: The backup is damaged, foreign or newer.
        LocalError: What went wrong later, with what to do.
    """
    began_s = time.monotonic()
    refuse_environment(layout)
    key = key or key_file(load(layout).settings.backup_key_file)
    with tempfile.TemporaryDirectory(prefix=".tekup-restoring-", dir=layout.directory) as folder:
        report.update("restore", "reading and checking the backup")
        manifest = read(archive, key, Path(folder), package_version())
        site = Site.local(layout)
        with _all_or_nothing(layout):
            put_in_place(site, manifest, Path(folder))
            parts = _parts(layout, programs, report)
            with _running(parts, ("consul",), report, timeout_s):
                report.update("restore", "Consul takes over the snapshot")
                snapshot.put_back(site, parts.url("MCP_CONSUL_PORT"), Path(folder) / SNAPSHOT)
            known_at, revoked = known_revocations(archive.parent, manifest.environment)
            with _running(parts, ("consul", ACL, CONTROL_PLANE), report, timeout_s):
                report.update("restore", "looking at keys")
                count = _take_keys_back(parts, sorted(revoked) if trust_keys else None, report, timeout_s)
    report.finish("restore", "done")
    lost_s = max(0.0, time.time() - manifest.taken)
    return Restored(manifest, count, known_at, trust_keys, time.monotonic() - began_s, lost_s)


def refuse_environment(layout: Layout) -> None:
    """Refuse a directory that has an environment.

    Raises:
        BadInput: It has; nothing was touched.
    """
    if Link(layout).status_if_running() is not None:
        raise BadInput(f"an environment runs in {layout.directory}; `tekup down` and move .tekup away first")
    if there := [name for name in THERE if _is_there(layout.state / name)]:
        raise BadInput(
            f"{layout.state} holds {', '.join(there)}: a backup is restored only where there is no environment. Move it"
            " away first: mv .tekup .tekup-before"
        )


def _is_there(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


@contextmanager
def _all_or_nothing(layout: Layout) -> Iterator[None]:
    """What was put back is taken away again where the block breaks: there was no environment before."""
    try:
        yield
    except BaseException:
        for name in (*THERE, *KEPT):
            path = layout.state / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def put_in_place(site: Site, manifest: Manifest, files: Path) -> None:
    """Move what was read to where it belongs; links come last, so that nothing is written through one."""
    layout = site.layout
    layout.make_folders()
    for name in manifest.folders:
        site.target(name).mkdir(parents=True, exist_ok=True)
    for name, part in manifest.parts.items():
        target = site.target(name)
        if name == SNAPSHOT or (name == SETTINGS and target.exists()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(files / name, target)
        target.chmod(part.mode)
    roots = (layout.state.resolve(), site.workspace.resolve())
    for name, to in sorted(manifest.links.items()):
        link = site.target(name)
        if any(link.parent.resolve().is_relative_to(root) for root in roots):  # not by way of another link
            link.symlink_to(to)
    gate_secrets_file(layout).parent.chmod(0o700)
    for private in (layout.operator_token, layout.client_key):
        if private.exists():
            private.chmod(PRIVATE)


def _parts(layout: Layout, programs: dict[str, Found], report: Reporter) -> Parts:
    effective = load(layout)
    ports = settled_ports(wanted_ports(effective), named_ports(effective.settings), layout.ports, report)
    make_credentials(layout)
    return Parts(layout, effective, ports, programs)


@contextmanager
def _running(parts: Parts, groups: tuple[str, ...], report: Reporter, timeout_s: float) -> Iterator[None]:
    """Some of the environment's processes run for the length of the block."""
    whole = platform_table(parts)
    some = tuple(one for one in whole.processes if one.group in groups)
    write_table(parts.layout.table, whole.model_copy(update={"processes": some, "services": ()}))
    start_supervisor(parts.layout, report)
    try:
        wait_until_ready(parts.layout, report, timeout_s)
        yield
    finally:
        stop_supervisor(parts.layout, report, STOP_S)


def _take_keys_back(parts: Parts, only: list[str] | None, report: Reporter, timeout_s: float) -> int:
    """Revoke keys before any gate can have them.

    Args:
        parts: The environment; no gate of it runs.
        only: Those to revoke; None for all.
        report: Told while waiting.
        timeout_s: The most to wait.

    Returns:
        How many were good by the backup.
    """
    token = parts.layout.operator_token.read_text(encoding="ascii").strip()
    api = OperatorsApi(parts.url("MCP_CONTROL_PLANE_PORT"), token, report, timeout_s)
    return take_keys_back(api, only, report, timeout_s)


def take_keys_back(api: OperatorsApi, only: list[str] | None, report: Reporter, timeout_s: float) -> int:
    """The same of whatever control plane; `only`: those to revoke, None for all.

    Raises:
        WaitedTooLong: A gate of before still lives.
    """
    # Gates reported to the Consul of before: their sessions end by themselves, and nobody is to wait for them.
    gates = wait_for(lambda: _all_gone(api), "the gates of before to be gone", timeout_s, report, "restore")
    for gate in gates:
        api.forget_gate(gate, REASON)
    return api.revoke_keys(only, REASON)


def _all_gone(api: OperatorsApi) -> list[str] | None:
    """Names of all gates, once none of them lives."""
    gates = api.status().gates
    return None if any(gate.live for gate in gates) else [gate.id for gate in gates]
