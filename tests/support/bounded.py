"""A process with limits of memory, CPU and processes of its own, where the machine lets a test set some."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
FIRST = {
    "memory": {"memory.limit_in_bytes": "1073741824"},
    "cpu": {"cpu.cfs_quota_us": "200000"},
    "pids": {"pids.max": "512"},
}
SECOND = {"memory.max": "1073741824", "cpu.max": "200000 100000", "pids.max": "512"}
ENTER = 'for group in $GROUPS_TO_ENTER; do echo $$ > "$group/cgroup.procs" || exit 71; done; exec "$@"'


@contextlib.contextmanager
def bounded(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[bool]:
    """Run a command in a control group of its own.

    Args:
        command: The command.
        env: Its whole environment.
        log: Where it writes.

    Yields:
        Whether there are such groups here; without, nothing runs.
    """
    with _groups() as groups:
        if not groups:
            yield False
            return
        told = {**env, "GROUPS_TO_ENTER": " ".join(map(str, groups))}
        with log.open("ab") as output:
            running = subprocess.Popen(["sh", "-c", ENTER, "sh", *command], env=told, stdout=output, stderr=output)
        try:
            yield True
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextlib.contextmanager
def _groups() -> Iterator[list[Path]]:
    name = f"tekup-test-{uuid.uuid4().hex[:12]}"
    second = (GROUPS / "cgroup.controllers").exists()
    wanted = {GROUPS / name: SECOND} if second else {GROUPS / part / name: files for part, files in FIRST.items()}
    made: list[Path] = []
    try:
        try:
            for folder, files in wanted.items():
                folder.mkdir()
                made.append(folder)
                for file, value in files.items():
                    (folder / file).write_text(value)
        except OSError:  # not root, or a container's own
            yield []
        else:
            yield made
    finally:
        for folder in made:
            folder.rmdir()
