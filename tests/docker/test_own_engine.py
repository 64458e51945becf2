"""The engine that a bare machine gets: started, used, ended, and never left behind.

In a network and a /run of its own, so that an engine which already runs here is not disturbed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.files import try_lock
from tests.support.engine import Engine, Place, is_mounted, own_engine
from tests.support.engine_install import NoEngine, told
from tests.support.gate import wait_until
from tests.support.programs import ROOT

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dockerd") is None, reason="only root can start an engine"),
]

APART = 'ip link set lo up && mount -t tmpfs none /run && exec "$@"'
ENDED_S = 60.0


def apart(data: Path, *command: str) -> list[str]:
    """A command line that gives a command an engine of its own."""
    ours = [sys.executable, "-m", "tests.support.engine", "--data-root", str(data), *command]
    return ["unshare", "--net", "--mount", "sh", "-c", APART, "sh", *ours]


def environment(engine: Engine) -> dict[str, str]:
    return {name: value for name, value in engine.env.items() if name not in ("DOCKER_HOST", "DOCKER_CONTEXT")}


def engines(data: Path) -> list[int]:
    """Processes of the engine with these data."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = line.read_bytes().split(b"\0")
        except OSError:  # has ended meanwhile
            continue
        if argv[0].endswith(b"dockerd") and str(data).encode() in argv:
            found.append(int(line.parent.name))
    return found


def test_a_command_gets_an_engine_that_ends_with_it(engine: Engine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    script = 'docker info --format "{{.DockerRootDir}}" && docker compose version --short && exit 7'
    argv = apart(data, "sh", "-c", script)
    done = subprocess.run(
        argv, cwd=ROOT, env=environment(engine), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[0] == str(data)
    assert engines(data) == []
    assert (data / "overlay2").is_dir() or (data / "image").is_dir()


def test_an_engine_ends_when_who_started_it_is_killed(engine: Engine, tmp_path: Path) -> None:
    data, ready = tmp_path / "data", tmp_path / "ready"
    # the command must end with its starter, too, or it would be left
    argv = apart(data, "sh", "-c", f"touch {ready} && exec setpriv --pdeathsig KILL sleep 300")
    starter = subprocess.Popen(argv, cwd=ROOT, env=environment(engine))
    try:
        wait_until(ready.exists, "a command with an engine", 120)
        assert engines(data)
        starter.send_signal(signal.SIGKILL)
        starter.wait(20)
        wait_until(lambda: not engines(data), "the engine's end", ENDED_S)
    finally:
        starter.kill()
        starter.wait(20)


def test_data_that_another_engine_uses_are_refused_with_its_starter(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", tmp_path / "run")
    with (
        try_lock(tmp_path / "data.lock") as mine,
        pytest.raises(NoEngine, match=rf"process {os.getpid()} runs an engine on {place.data}: .*DOCKER_HOST=unix://"),
        own_engine(place),
    ):
        assert mine


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    too_long_for_a_socket = tmp_path / ("x" * 120)
    with (
        pytest.raises(NoEngine, match=r"(?s)dockerd ended with code \d+ at its start; the last lines of .*docker\.log"),
        own_engine(Place(tmp_path / "data", too_long_for_a_socket)),
    ):
        pass
    assert not is_mounted(tmp_path / "data")


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(NoEngine, match=r"did not end within 1 s"):
        told(["sh", "-c", f"sleep 300 & echo $! > {note}; wait"], timeout_s=1)
    child = Path(f"/proc/{int(note.read_text())}/stat")
    wait_until(lambda: not child.exists() or ") Z" in child.read_text(), "the child's end", 20)
