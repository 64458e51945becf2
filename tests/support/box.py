"""A control group of a test's own: what an instance in it may use is what the test says."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gate import wait_until

MOUNTS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")
ENTER = 'for c in cpu cpuacct memory pids; do echo $$ > "$0/$c/$1/cgroup.procs" || exit 1; done; shift; exec "$@"'


@dataclass(frozen=True)
class Box:
    """The group."""

    name: str

    @property
    def command(self) -> list[str]:
        """Runs what follows it in here."""
        return ["sh", "-c", ENTER, str(MOUNTS), self.name]

    def limit(self, controller: str, name: str, value: int) -> None:
        """Set one of the kernel's files."""
        (MOUNTS / controller / self.name / name).write_text(str(value))

    def used(self, controller: str, name: str) -> int:
        """Read one of the kernel's files."""
        return int((MOUNTS / controller / self.name / name).read_text())


@contextlib.contextmanager
def box() -> Iterator[Box]:
    """A group without limits; skips the test where the machine does not let it make one."""
    made = Box(f"tekup-test-{secrets.token_hex(4)}")
    folders = [MOUNTS / controller / made.name for controller in CONTROLLERS]
    try:
        for folder in folders:
            folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error}")
    try:
        yield made
    finally:
        for folder in folders:
            wait_until(lambda at=folder: _removed(at), f"{folder} empty", 20)  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
