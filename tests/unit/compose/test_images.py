"""What images hold, by their locks and profiles, and what building them says without an engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compose.images.build import About
from compose.images.errors import ImageError
from compose.images.locks import BUILDER, lock_path, required
from compose.images.sizes import Size, table
from compose.images.table import IMAGES, KIT

ROOT = Path(__file__).parents[3]
LOCKED = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+?)(?: ; (?P<marker>[^\\]+?))? *\\\n(?P<hashes>(?:    --hash=\S+.*\n)+)", re.M
)
SECCOMP = ROOT / "compose" / "images" / "seccomp"


def entries(path: Path) -> dict[str, re.Match[str]]:
    """What a lock pins, by name."""
    return {found["name"]: found for found in LOCKED.finditer(path.read_text())}


def needed(requirements: list[Requirement]) -> set[str]:
    """All packages that requirements come to on this machine, by what the installed ones say they need."""
    known: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in known:
            continue
        known.add(key)
        for text in metadata.requires(requirement.name) or ():
            inner = Requirement(text)
            extras = {"", *requirement.extras}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return {name for name, _ in known}


@pytest.mark.parametrize("name", [KIT, *IMAGES])
def test_an_image_holds_what_requirements_lock_has_of_the_same_version_and_hashes(name: str) -> None:
    everything = entries(ROOT / "requirements.lock")
    for package, pinned in entries(lock_path(name)).items():
        whole = everything[package]
        assert pinned["version"] == whole["version"], f"{package}; run make lock"
        assert set(pinned["hashes"].split()) == set(whole["hashes"].split()), f"{package}; run make lock"


@pytest.mark.parametrize("name", [KIT, *IMAGES])
def test_an_image_holds_all_that_pyproject_asks_for_it_and_nothing_else(name: str) -> None:
    held = {
        package
        for package, pinned in entries(lock_path(name)).items()
        if pinned["marker"] is None or Marker(pinned["marker"]).evaluate()
    }
    assert held == needed([Requirement(text) for text in required(name)]), "run make lock"


def test_images_are_built_with_the_uv_that_made_their_locks() -> None:
    wanted = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert wanted is not None
    assert {name: pinned["version"] for name, pinned in entries(lock_path(BUILDER)).items()} == {"uv": wanted[1]}


def profile(name: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = json.loads((SECCOMP / f"{name}.json").read_text())["syscalls"]
    return [{key: value for key, value in rule.items() if key != "comment"} for rule in rules]


def test_chromium_may_do_what_all_may_and_make_the_namespaces_of_its_sandbox() -> None:
    default, chromium = profile("default"), profile("chromium")
    assert [rule["names"] for rule in chromium if rule not in default] == [["clone"], ["unshare"], ["chroot"]]
    assert [rule["names"] for rule in default if rule not in chromium] == [["clone"]]


def test_no_profile_lets_a_container_trace_mount_or_use_io_uring() -> None:
    for name in ("default", "chromium"):
        allowed = {call for rule in profile(name) if rule["action"] == "SCMP_ACT_ALLOW" for call in rule["names"]}
        assert not allowed & {
            "ptrace",
            "mount",
            "setns",
            "bpf",
            "io_uring_setup",
            "keyctl",
            "mknod",
            "clone3",
            "kexec_load",
        }


def images(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compose.images", *arguments],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_an_engine_the_command_says_so_and_what_to_do(tmp_path: Path) -> None:
    ended = images("build", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert ended.returncode == 1
    assert "start it, or name it in DOCKER_HOST" in ended.stderr or "docker is not on PATH" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_image_that_is_not_there_and_a_version_of_no_form_are_refused_by_name() -> None:
    assert "there is no image walrus; there are gateway, browser" in images("build", "walrus").stderr
    assert "must be 1-32 letters, digits and dots" in images("build", "search", "--version", "a b").stderr


def test_the_date_of_an_image_is_what_source_date_epoch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert About.of_checkout("1.2.3").created == "1970-01-02T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ImageError, match="whole seconds since 1970"):
        About.of_checkout()


def test_an_image_above_its_bound_is_marked_in_the_table() -> None:
    sizes = [Size(IMAGES["hub"], 250_000_000, 100_000_000), Size(IMAGES["search"], 900_000_000, 100_000_000)]
    lines = table(sizes).splitlines()
    assert "too large" not in lines[1]
    assert lines[2].endswith("too large")
