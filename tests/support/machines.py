"""Several engines on one machine, each as if on one of its own: a network, processes and a host name for itself.

`with machines(folders) as all_of_them:`. A machine's power can be cut: the kernel ends its engine and whatever runs on
it at once, as a namespace of processes ends with its first. What is started here is ended here, by its process.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from compose.local.cache import cache_folder
from compose.local.files import lock_holder, try_lock
from tests.support.engine import COMMAND_S, Engine, with_plugins
from tests.support.engine_install import NoEngine, install_packages, told

START_S = 120.0
STOP_S = 60.0
ASK_S = 20.0
POLL_S = 0.1
TAIL = 15
CGROUPS = Path("/sys/fs/cgroup")
SHARES = 8 * 1024
"""Of processor time, where one process has 1024."""


@dataclass
class Machine:
    """One engine with all it needs to be a machine.

    Args:
        name: Its host name, and that of its network namespace.
        address: In the network of all of them.
        data: Its disk: what the engine keeps.
        run: Socket and log.
        settings: Further arguments of `dockerd`.
    """

    name: str
    address: str
    data: Path
    run: Path
    settings: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """`DOCKER_HOST`."""
        return f"unix://{self.run / 'docker.sock'}"

    @property
    def log(self) -> Path:
        """What its engine writes."""
        return self.run / "docker.log"

    @cached_property
    def engine(self) -> Engine:
        """To run commands on it."""
        return Engine(with_plugins({**os.environ, "DOCKER_HOST": self.host}), ours=True, host=self.host)

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Switch it on, and wait until its engine answers.

        Raises:
            NoEngine: It does not.
        """
        (self.run / "docker.sock").unlink(missing_ok=True)
        _ip("link", "set", f"{self.name}c", "up")
        self._share()
        dockerd = [
            "dockerd", "--data-root", str(self.data), "--host", self.host, "--cgroup-parent", f"/{self.name}",
            *self.settings,
        ]  # fmt: skip
        script = 'hostname "$0" && mount -t tmpfs none /run && exec docker-init -- "$@"'
        argv = [
            *("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{self.name}"),
            *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", script, self.name, *dockerd),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:])
                raise NoEngine(f"the engine of {self.name} does not answer; the last lines of {self.log}:\n{last}")
            time.sleep(POLL_S)

    def _share(self) -> None:
        """Let its containers together have what as many processes have: a group counts as one process otherwise."""
        group = CGROUPS / "cpu" / self.name
        if group.parent.is_dir():
            group.mkdir(exist_ok=True)
            (group / "cpu.shares").write_text(str(SHARES), encoding="ascii")

    def _answers(self) -> bool:
        with contextlib.suppress(NoEngine):
            command = ["docker", "info", "--format", "{{.ServerVersion}}"]
            return bool(told(command, timeout_s=ASK_S, env={**os.environ, "DOCKER_HOST": self.host}).strip())
        return False

    def cut_power(self) -> None:
        """End everything on it this instant, and pull its cable: nobody says goodbye. Its disk stays."""
        if self._process is None:
            return
        _ip("link", "set", f"{self.name}c", "down")
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(STOP_S)
        self._process = None
        self._forget()

    def stop(self) -> None:
        """Shut it down in order, or else cut its power."""
        if self._process is not None and (first := _child_of(self._process.pid)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.cut_power()

    def _forget(self) -> None:
        """Remove the groups of processes that are no more."""
        deadline_s = time.monotonic() + STOP_S
        while left := sorted(_groups(self.name), key=lambda path: -len(path.parts)):
            for group in left:
                with contextlib.suppress(OSError):
                    group.rmdir()
            if time.monotonic() > deadline_s:
                raise NoEngine(f"of {self.name} is left: {', '.join(map(str, left))}")
            time.sleep(POLL_S)

    def load(self, names: Sequence[str], source: Engine) -> None:
        """Bring images here from another engine; those that are here stay.

        Raises:
            NoEngine: It failed.
        """
        form = ["image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]
        here, there = (dict(line.split() for line in one.docker(*form).splitlines()) for one in (self.engine, source))
        wanted = [name for name in names if here.get(name) != there[name]]
        if not wanted:
            return
        with subprocess.Popen(["docker", "save", *wanted], env=dict(source.env), stdout=subprocess.PIPE) as saving:
            command = ["docker", "load", "--quiet"]
            subprocess.run(command, env=dict(self.engine.env), stdin=saving.stdout, check=True, timeout=COMMAND_S,
                           stdout=subprocess.DEVNULL)  # fmt: skip


def _child_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])
    return None


def _groups(name: str) -> list[Path]:
    roots = [*CGROUPS.glob(f"*/{name}"), *CGROUPS.glob(name)]
    return [path for root in roots for path in (root, *root.rglob("*")) if path.is_dir()]


@contextlib.contextmanager
def machines(folders: Sequence[Path], settings: Sequence[str] = ()) -> Iterator[list[Machine]]:
    """As many machines as there are folders, in one network, each running.

    Args:
        folders: The disk of each; what is there stays, so that the next run finds the images.
        settings: Further arguments of every `dockerd`.

    Raises:
        NoEngine: One could not be started, or this is no Linux where we are root.
    """
    if os.geteuid() != 0:
        raise NoEngine("several engines on one machine need root")
    install_packages()
    mark = f"tk{os.getpid() % 100_000}"
    subnet = f"10.{random.randrange(64, 128)}.{random.randrange(250)}"
    with contextlib.ExitStack() as until_the_end:
        run = Path(tempfile.mkdtemp(prefix="tekup-machines-"))
        until_the_end.callback(shutil.rmtree, run, ignore_errors=True)
        until_the_end.enter_context(_switch(mark, subnet))
        made = []
        for number, folder in enumerate(folders, 1):
            own = run / str(number)
            for each in (own, folder):
                each.mkdir(parents=True, exist_ok=True)
            machine = Machine(f"{mark}m{number}", f"{subnet}.{number + 10}", folder, own, settings)
            until_the_end.enter_context(_plugged(machine, mark, subnet))
            until_the_end.callback(machine.stop)
            _forgotten(folder)
            machine.start()
            emptied(machine.engine)
            made.append(machine)
        yield made


def _forgotten(disk: Path) -> None:
    """Of what lies on a disk images stay: addresses are others each time, and so are Swarm and networks."""
    for name in ("swarm", "network"):
        shutil.rmtree(disk / name, ignore_errors=True)


def emptied(engine: Engine) -> None:
    """Remove every container and volume."""
    if containers := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", *containers)
    if volumes := engine.docker("volume", "ls", "--quiet").split():
        engine.docker("volume", "rm", "--force", *volumes)


@contextlib.contextmanager
def _switch(name: str, subnet: str) -> Iterator[None]:
    """A bridge that machines are plugged into, with a way out for what they build."""
    rules = [
        ("filter", "FORWARD", "-i", name, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-o", name, "-j", "ACCEPT"),
        ("nat", "POSTROUTING", "-s", f"{subnet}.0/24", "!", "-o", name, "-j", "MASQUERADE"),
    ]
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("addr", "add", f"{subnet}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        with contextlib.ExitStack() as until_the_end:
            for table, chain, *rule in rules:
                told(["iptables", "-w", "-t", table, "-I", chain, *rule], timeout_s=ASK_S)
                until_the_end.callback(told, ["iptables", "-w", "-t", table, "-D", chain, *rule], timeout_s=ASK_S)
            yield
    finally:
        _ip("link", "del", name)


@contextlib.contextmanager
def _plugged(machine: Machine, bridge: str, subnet: str) -> Iterator[None]:
    """The network of one machine."""
    name, cable = machine.name, f"{machine.name}c"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", bridge, "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{machine.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            # the real network's packets may be smaller than those between machines
            ("route", "add", "default", "via", f"{subnet}.1", "mtu", str(_mtu())),
        ):
            _ip("-n", name, *command)
        yield
    finally:
        if Path("/sys/class/net", cable).exists():  # the kernel is slow to take it away with the namespace
            _ip("link", "del", cable)
        _ip("netns", "del", name)


def _mtu() -> int:
    return min(int(path.read_text()) for path in Path("/sys/class/net").glob("e*/mtu"))


def _ip(*arguments: str) -> None:
    told(["ip", *arguments], timeout_s=ASK_S)


@contextlib.contextmanager
def usual_machines(count: int, settings: Sequence[str] = ()) -> Iterator[list[Machine]]:
    """Machines whose disks lie in the user's cache, or below TEKUP_MACHINES_FOLDER; one run at a time has them.

    Args:
        count: How many.
        settings: Further arguments of every `dockerd`.

    Raises:
        NoEngine: Somebody has them, or one could not be started.
    """
    root = Path(os.environ.get("TEKUP_MACHINES_FOLDER") or cache_folder().parent / "machines")
    root.mkdir(parents=True, exist_ok=True)
    with try_lock(lock := root / "lock") as mine:
        if not mine:
            raise NoEngine(f"process {lock_holder(lock)} runs machines on {root}: wait for its end")
        with machines([root / str(number) for number in range(1, count + 1)], settings) as made:
            yield made
