"""Environments of tiny stand-in programs, under the real supervisor."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from compose.local.layout import Layout
from compose.local.link import Link, end_earlier, start_supervisor, stop_supervisor
from compose.local.progress import Silent
from compose.local.ready import wait_until_ready
from compose.local.status import ProcessStatus, Wish
from compose.local.table import Process, Ready, Service, Table, write_table
from tests.support.ports import free_port

STAND_IN = Path(__file__).parent / "standin.py"


class Until(Protocol):
    """Waits for a condition, with a bound."""

    def __call__(self, condition: Callable[[], object], what: str, within_s: float = 10.0) -> None: ...


@pytest.fixture
def until() -> Until:
    """Waits for a condition, with a bound."""

    def wait(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
            time.sleep(0.02)

    return wait


@dataclass
class StandIns:
    """One environment under test."""

    layout: Layout
    table: Table
    report: Silent = field(default_factory=Silent)

    @property
    def link(self) -> Link:
        """A fresh link to its supervisor."""
        return Link(self.layout)

    def up(self) -> None:
        """Start it, ending what an earlier one left, and wait until it is ready."""
        self.layout.make_folders()
        end_earlier(self.layout, self.report)
        write_table(self.layout.table, self.table)
        start_supervisor(self.layout, self.report)
        wait_until_ready(self.layout, self.report, 20)

    def down(self) -> list[str]:
        """Stop it, whatever became of its supervisor."""
        return stop_supervisor(self.layout, self.report, 20)

    def scale(self, service: str, version: str, count: int) -> Wish:
        """Wish for a number of instances."""
        return self.link.scale(Wish(service=service, version=version, count=count))

    def process(self, name: str) -> ProcessStatus:
        """One process, asked now."""
        return next(process for process in self.link.status().processes if process.name == name)

    def pid(self, name: str) -> int:
        """A running process's pid."""
        pid = self.process(name).pid
        assert pid is not None
        return pid

    def mine(self) -> list[psutil.Process]:
        """All running processes that carry this environment's directory in their variables."""
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            running = process.status() != psutil.STATUS_ZOMBIE
            return running and process.environ().get("TEKUP_DIRECTORY") == str(self.layout.directory)
        except psutil.Error:
            return False


def stand_in(name: str, *options: str, after: tuple[str, ...] = (), stop_s: float = 5.0) -> Process:
    """A process of the table: a stand-in on a free port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = (sys.executable, str(STAND_IN), str(port), *options)
    return Process(name=name, group=name, argv=argv, ready=Ready(url=url), after=after, stop_s=stop_s, url=url)


def sleeper(name: str, code: str = "import time; time.sleep(600)", ready: Ready | None = None) -> Service:
    """A service whose instances just sleep, or do something else; without a condition they are ready once they run."""
    argv = (sys.executable, "-c", code, "{version}", "{instance}", "{port}")
    pattern = Process(name=name, group=name, argv=argv, ready=ready)
    return Service(name=name, version="1.0.0", port=4711, pattern=pattern)


Make = Callable[..., StandIns]


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes environments; each is stopped when the test ends."""
    made: list[StandIns] = []

    def make_one(*processes: Process, services: tuple[Service, ...] = ()) -> StandIns:
        layout = Layout(tmp_path_factory.mktemp("env"))
        made.append(StandIns(layout, Table(processes=processes, services=services)))
        return made[-1]

    yield make_one
    for environment in made:
        environment.down()


@pytest.fixture
def tiny() -> Callable[..., Process]:
    """Makes a process of the table: a stand-in on a free port."""
    return stand_in


@pytest.fixture
def service() -> Callable[..., Service]:
    """Makes a service of the table."""
    return sleeper
