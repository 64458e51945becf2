"""The wheel, installed where there is no checkout: everything comes up from it alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import PORTS
from tests.support.command_line import REPOSITORY

pytestmark = [pytest.mark.local, pytest.mark.timeout(300), pytest.mark.feature("G1", "G7")]
BUILD_S, INSTALL_S, UP_S = 60, 180, 240
BESIDE = Path(sys.executable).parent


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it, and an empty folder to work in."""

    bin: Path
    folder: Path

    def run(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one of its programs with nothing of this test's Python in reach."""
        ours = ("PYTHON", "VIRTUAL_", "UV", "PWD", "OLDPWD", "MAKE", "_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = os.pathsep.join(one for one in kept["PATH"].split(os.pathsep) if Path(one) != BESIDE)
        ports = {f"MCP_{name}_PORT": "0" for name in PORTS}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder, env={**kept, **ports, "PATH": path}, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [str(BESIDE / "hatchling"), "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=BUILD_S)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel in a virtual environment of its own; what was started from it is stopped."""
    folder = tmp_path_factory.mktemp("installed")
    uv, python = str(BESIDE / "uv"), str(folder / "venv" / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True, timeout=60)
    install = [uv, "pip", "install", "--quiet", "--no-build", "--python", python, str(wheel)]
    subprocess.run(install, check=True, timeout=INSTALL_S)
    (folder / "work").mkdir()
    made = Installed(folder / "venv" / "bin", folder / "work")
    yield made
    made.run("tekup", "down", timeout_s=120)


def test_it_tells_its_version(installed: Installed) -> None:
    said = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)[0]
    for program in ("tekup", "tekup-mcp"):
        assert installed.run(program, "--version").stdout == f"{said}\n"


def test_its_dependencies_are_those_that_were_tested(installed: Installed) -> None:
    pins = {line.partition(" ;")[0] for line in (REPOSITORY / "wheel.lock").read_text().splitlines()}
    script = (
        "import json; from importlib.metadata import distributions;"
        "print(json.dumps({one.name.lower().replace('_', '-'): one.version for one in distributions()}))"
    )
    there = json.loads(installed.run("python", "-c", script).stdout)
    assert {f"{name}=={version}" for name, version in there.items() if name != "tekup-mcp"} <= pins


def test_up_in_an_empty_folder_ends_with_a_real_call_of_every_service(installed: Installed) -> None:
    done = installed.run("tekup", "up", "--json", timeout_s=UP_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {call["tool"].partition("_")[0]: call["ok"] for call in told["calls"]} == {
        "browser": True, "filesystem": True, "search": True,
    }  # fmt: skip
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/environ") if _mine(path, installed.folder)]
    assert commands
    assert not [one for one in commands if os.fsencode(REPOSITORY) in one]
    assert installed.run("tekup", "doctor").returncode == 0
    assert "ended_by_force" in installed.run("tekup", "down", "--json", timeout_s=120).stdout


def _mine(environ: Path, folder: Path) -> bool:
    try:
        return os.fsencode(f"TEKUP_DIRECTORY={folder}") in environ.read_bytes()
    except OSError:
        return False
