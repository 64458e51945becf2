"""A container engine for tests: the one that answers, or one of our own on a bare Debian machine.

`with engine() as it:` in tests, `python -m tests.support.engine COMMAND…` for everything else: the command runs with
an engine in its environment. What is started here is ended here, by its process; its data stay in the user's cache, so
that the next run finds the layers. If the process that started it dies, the kernel ends the engine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compose.local.cache import cache_folder
from compose.local.files import lock_holder, try_lock
from tests.support.engine_install import ASK_S, NoEngine, install_packages, lacks_plugins, plugins_into, told
from tests.support.gate import wait_until

COMMAND_S = 600.0
START_S = 90.0
STOP_S = 60.0
AGAIN_S = 120.0
POLL_S = 0.1
TAIL = 15


@dataclass(frozen=True)
class Engine:
    """An engine that answers, and how to talk to it."""

    env: Mapping[str, str]
    """The whole environment for commands that use it."""
    ours: bool
    """Whether we started it, so that everything on it is ours."""
    host: str = ""
    """`DOCKER_HOST`, empty where Docker's default holds."""
    asked: list[str] = field(default_factory=list, compare=False)
    """Every command line, in order; for messages."""

    def docker(self, *args: str, timeout_s: float = COMMAND_S) -> str:
        """Run `docker ARGS`.

        Args:
            args: Its arguments.
            timeout_s: The most it may take, in seconds.

        Returns:
            What it wrote to its standard output, without the last line's end.

        Raises:
            NoEngine: It failed or took too long; has its last lines.
        """
        self.asked.append(" ".join(args))
        return told(["docker", *args], timeout_s=timeout_s, env=self.env).rstrip("\n")

    def compose(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = COMMAND_S) -> str:
        """Run `docker compose ARGS`, with variables on top of the environment.

        Args:
            args: Its arguments.
            env: Further variables.
            timeout_s: The most it may take, in seconds.

        Returns:
            What it wrote to its standard output, without the last line's end.

        Raises:
            NoEngine: It failed or took too long; has its last lines.
        """
        self.asked.append(" ".join(("compose", *args)))
        argv = ["docker", "compose", *args]
        return told(argv, timeout_s=timeout_s, env={**self.env, **(env or {})}).rstrip("\n")

    def process_of(self, container: str) -> int:
        """The first process of a container, by the machine's own number: not every container has numbers of its own.

        Raises:
            NoEngine: It does not run, or not on this machine.
        """
        whole, first = self.docker("inspect", "--format", "{{.Id}} {{.State.Pid}}", container).split()
        try:
            if whole in Path("/proc", first, "cgroup").read_text():  # else the number is another's here
                return int(first)
        except OSError as error:
            raise NoEngine(f"{container} does not run on this machine: {error}") from error
        raise NoEngine(f"process {first} is not one of container {container}")

    def crash(self, container: str) -> None:
        """End a container's program as by a fault of its own, not by an operator's word, and see it started again.

        Args:
            container: Its id or name.

        Raises:
            NoEngine: It does not run, or not on this machine.
            AssertionError: The engine has not started it again in time.
        """

        def state() -> list[str]:
            return self.docker("inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", container).split()

        began, _ = state()
        first = self.process_of(container)
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            os.kill(int(children[0]) if children else first, signal.SIGKILL)
        except OSError as error:
            raise NoEngine(f"{container} does not run on this machine: {error}") from error

        def again() -> bool:
            now, runs = state()
            return now != began and runs == "true"

        wait_until(again, f"{container} to be started again", AGAIN_S)


@dataclass(frozen=True)
class Place:
    """Where an engine of our own lives."""

    data: Path
    run: Path
    """Socket, pidfile, log and what the engine keeps while it runs."""

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return self.run / "docker.sock"

    @property
    def pidfile(self) -> Path:
        """Its process."""
        return self.run / "docker.pid"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.run / "docker.log"


def usual_place() -> Place:
    """In the user's cache and below /run."""
    return Place(cache_folder().parent / "docker", Path("/run/tekup-mcp-engine"))


@contextlib.contextmanager
def engine(place: Place | None = None) -> Iterator[Engine]:
    """The engine that answers, or one of our own for as long as the block runs.

    Args:
        place: Where our own would live; without, the usual place.

    Raises:
        NoEngine: There is none, and none could be started; says what was tried.
    """
    env = dict(os.environ)
    if _answers(env):
        yield Engine(with_plugins(env), ours=False, host=env.get("DOCKER_HOST", ""))
        return
    install_packages()
    if _answers(env):  # a machine whose init system starts what is installed
        yield Engine(with_plugins(env), ours=False, host=env.get("DOCKER_HOST", ""))
        return
    with own_engine(place or usual_place()) as host:
        yield Engine(with_plugins({**env, "DOCKER_HOST": host}), ours=True, host=host)


def _answers(env: Mapping[str, str]) -> bool:
    with contextlib.suppress(NoEngine):
        # `docker info` alone ends with 0 although no server answers
        return bool(told(["docker", "info", "--format", "{{.ServerVersion}}"], timeout_s=ASK_S, env=env).strip())
    return False


def with_plugins(env: dict[str, str]) -> dict[str, str]:
    """An environment whose `docker` has its plugins compose and buildx.

    Raises:
        NoEngine: They are not there and could not be fetched.
    """
    if not lacks_plugins(env):
        return env
    folder = cache_folder().parent / "docker-cli"
    plugins_into(folder)
    # the user's own contexts are in the folder that is left here: what they say must go on to hold
    asked = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    host = env.get("DOCKER_HOST") or told(asked, timeout_s=ASK_S, env=env).strip()
    return {**env, "DOCKER_CONFIG": str(folder), "DOCKER_HOST": host}


@contextlib.contextmanager
def own_engine(place: Place) -> Iterator[str]:
    """Start an engine, and end it with the block.

    Args:
        place: Where it lives; its data stay.

    Yields:
        Its `DOCKER_HOST`.

    Raises:
        NoEngine: Somebody else uses its data, or it did not start.
    """
    for folder in (place.data, place.run):
        folder.mkdir(parents=True, exist_ok=True)
    lock = place.data.with_name(f"{place.data.name}.lock")
    with try_lock(lock) as mine:
        if not mine:
            raise NoEngine(
                f"process {lock_holder(lock)} runs an engine on {place.data}: wait for its end, or share it with "
                f"DOCKER_HOST=unix://{place.socket}"
            )
        _wait_for_the_last(place)
        process = _started(place)
        try:
            _wait_until_it_answers(process, place)
            yield f"unix://{place.socket}"
        finally:
            _stop(process, place)


def _wait_for_the_last(place: Place) -> None:
    """One whose starter was killed may still be ending its containers."""
    deadline_s = time.monotonic() + STOP_S
    while (pid := _running(place.pidfile)) is not None:
        if time.monotonic() > deadline_s:
            raise NoEngine(f"process {pid} still runs as an engine on {place.data}: end it with `kill {pid}`")
        time.sleep(POLL_S)
    place.socket.unlink(missing_ok=True)


def _running(pidfile: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        pid = int(pidfile.read_text(encoding="ascii"))
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "dockerd":
            return pid
    return None


def _started(place: Place) -> subprocess.Popen[bytes]:
    argv = [
        "setpriv", "--pdeathsig", "TERM",
        "dockerd", "--data-root", str(place.data), "--exec-root", str(place.run / "exec"),
        "--pidfile", str(place.pidfile), "--host", f"unix://{place.socket}",
    ]  # fmt: skip
    with place.log.open("wb") as log:
        try:
            # a session of its own: Ctrl-C at a terminal is for the tests, which end the engine in order
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            raise NoEngine(f"`{' '.join(argv)}` could not be started: {error.strerror}") from error


def _wait_until_it_answers(process: subprocess.Popen[bytes], place: Place) -> None:
    env = {**os.environ, "DOCKER_HOST": f"unix://{place.socket}"}
    deadline_s = time.monotonic() + START_S
    while not (place.socket.exists() and _answers(env)):
        if process.poll() is not None:
            raise NoEngine(f"dockerd ended with code {process.returncode} at its start; {_last_of(place.log)}")
        if time.monotonic() > deadline_s:
            raise NoEngine(f"dockerd did not answer at {place.socket} within {START_S:.0f} s; {_last_of(place.log)}")
        time.sleep(POLL_S)


def _last_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
    return "\n".join((f"the last lines of {log}:", *lines))


def is_mounted(folder: Path) -> bool:
    """Whether something is mounted at a folder, itself included, which a look at its device does not tell."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return any(line.split()[1] == str(folder.resolve()) for line in mounts)


def _stop(process: subprocess.Popen[bytes], place: Place) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise NoEngine(
            f"dockerd did not end within {STOP_S:.0f} s and was killed, containers perhaps not; {_last_of(place.log)}"
        ) from None
    finally:
        if is_mounted(place.data):  # an engine that ended at its start leaves its data mounted onto themselves
            subprocess.run(["umount", str(place.data)], check=False, timeout=STOP_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with a container engine in its environment; its exit code is ours."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.engine", description=main.__doc__)
    parser.add_argument("--data-root", type=Path, help="where an engine of our own keeps images; the user's cache")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    arguments = parser.parse_args(argv)
    if not arguments.command:
        parser.error("name a command to run, for example: docker info")
    try:
        with contextlib.ExitStack() as until_the_end:
            place = until_the_end.enter_context(_place(arguments.data_root))
            running = until_the_end.enter_context(engine(place))
            return subprocess.run(arguments.command, env=dict(running.env), check=False).returncode
    except NoEngine as error:
        print(error, file=sys.stderr)
        return 1


@contextlib.contextmanager
def _place(data: Path | None) -> Iterator[Place]:
    if data is None:
        yield usual_place()
        return
    with tempfile.TemporaryDirectory(prefix="tekup-engine-") as run:
        yield Place(data.absolute(), Path(run))


if __name__ == "__main__":
    sys.exit(main())
