"""`tekup doctor` where nothing runs: what of this machine stands in the way is named, with its remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import run_tekup
from tests.support.ports import free_port

pytestmark = pytest.mark.feature("G3")


def faults(folder: Path, **own: str) -> dict[str, dict[str, Any]]:
    """What the doctor finds wrong in a folder, by what it is about."""
    done = run_tekup("doctor", "--json", folder=folder, timeout_s=60, own=own)
    found = [one for one in json.loads(done.stdout) if not one["ok"]]
    assert done.returncode == (1 if found else 0)
    assert all(one["remedy"] for one in found)
    return {one["what"]: one for one in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose settings take free ports."""
    names = ("GATEWAY", "BROWSER", "FILESYSTEM", "SEARCH", "HUB", "INTERNAL", "PRIVATE", "CONTROL_PLANE", "CONSUL")
    (tmp_path / "tekup.toml").write_text("".join(f"MCP_{name}_PORT = 0\n" for name in names))
    return tmp_path


def test_a_port_that_is_taken_is_named_with_who_has_it(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        found = faults(folder, MCP_SEARCH_PORT=str(port))["MCP_SEARCH_PORT"]
    assert f"{port}, taken by" in found["said"]
    assert str(os.getpid()) in found["said"]
    assert "set MCP_SEARCH_PORT" in found["remedy"]


@pytest.fixture
def old_consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with a Consul of long ago."""
    folder = tmp_path_factory.mktemp("old")
    program = folder / "consul"
    program.write_text("#!/bin/sh\necho Consul v1.9.1\n")
    program.chmod(0o755)
    return folder


def test_a_program_that_is_too_old_and_one_that_is_missing_are_named(folder: Path, old_consul: Path) -> None:
    empty = str(folder / "cache")
    nowhere = {"XDG_CACHE_HOME": empty, "PLAYWRIGHT_BROWSERS_PATH": empty, "PATH": f"{old_consul}:/bin"}
    found = faults(folder, **nowhere)
    assert "version 1.9.1, older than 1.22" in found["consul"]["said"]
    assert "install Consul 1.22 or newer" in found["consul"]["remedy"]


def test_a_setting_that_is_wrong_is_named_with_where_it_came_from(folder: Path) -> None:
    found = faults(folder, MCP_GATEWAY_PORT="many")["settings"]
    assert "MCP_GATEWAY_PORT = 'many' (from environment)" in found["said"]


def test_a_key_that_others_may_read_is_named_with_the_command_that_mends_it(folder: Path) -> None:
    state = folder / ".tekup"
    (state / "secrets").mkdir(parents=True)
    for file in (state / "operator.token", state / "secrets" / "hub.json"):
        file.write_text("sesame")
        file.chmod(0o600)
    (state / "operator.token").chmod(0o644)
    found = faults(folder)["secrets"]
    assert "others may read .tekup/operator.token (644)" in found["said"]
    assert f"chmod 600 {state / 'operator.token'}" in found["remedy"]


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """The folder on a disk of its own that holds 64 MiB."""
    mounted = folder / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mounted)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk of its own needs a user who may mount one")
    try:
        (mounted / "tekup.toml").write_bytes((folder / "tekup.toml").read_bytes())
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_disk_that_is_nearly_full_is_named(small_disk: Path) -> None:
    assert "0.1 of 0.1 GiB free, which is nearly full" in faults(small_disk)["disk"]["said"]
