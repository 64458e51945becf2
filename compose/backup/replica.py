"""A standby replica of the workspace, on a second host or disk: rounds of rsync, each told to the control plane.

What is lost with the machine is what was written since the last round that came to its end began. Every file of the
replica is whole, since services put files in place by renaming; together they are of no one moment, which a backup is.

Source: rsync(1), "--delay-updates", "--delete-delay", "--timeout".
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from compose.local.errors import BadInput, LocalError, StepFailed
from compose.local.log import log

__all__ = ["STAMP", "Round", "carry_out", "keep"]

STAMP = ".replica.json"
"""What is behind the target's name in the name of the file that says how old it is."""
ROUND_S = 6 * 3600.0
SILENT_S = 60
VANISHED = 24
"""rsync's exit code where files went while it was at work."""
FLAGS = ("--archive", "--delete-delay", "--delay-updates", f"--timeout={SILENT_S}", "--chmod=Du+w")


@dataclass(frozen=True)
class Round:
    """One round that came to its end.

    Attributes:
        target: Where the replica lies, as rsync names it.
        at: When the round began, in seconds since the epoch.
        seconds: How long it took.
        every_s: How long after its end the next begins.
    """

    target: str
    at: float
    seconds: float
    every_s: float

    @property
    def bound_s(self) -> float:
        """What a loss of the machine costs at most, in seconds, where rounds go on like this one."""
        return self.every_s + 2 * self.seconds


def carry_out(rsync: Path, source: Path, target: str, every_s: float) -> Round:
    """Bring the replica up to date.

    Args:
        rsync: The program.
        source: The workspace.
        target: A folder, or HOST:FOLDER by ssh.
        every_s: Said in the round.

    Raises:
        BadInput: The source is no folder, or has nothing in it: a disk that is not mounted must not empty the replica.
        StepFailed: rsync failed; has its last words.
    """
    if not source.is_dir() or next(source.iterdir(), None) is None:
        raise BadInput(f"{source} is empty or no folder: a replica of that would be emptied; is its disk mounted?")
    target = target.rstrip("/")
    at_s, began_s = time.time(), time.monotonic()
    _run([str(rsync), *FLAGS, f"{source}/", f"{target}/"])
    done = Round(target, at_s, round(time.monotonic() - began_s, 3), every_s)
    with tempfile.TemporaryDirectory(prefix="tekup-replica-") as folder:
        stamp = Path(folder, "stamp.json")
        stamp.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")
        # two stamps of one second and one length are not the same
        _run([str(rsync), "--ignore-times", f"--timeout={SILENT_S}", str(stamp), f"{target}{STAMP}"])
    return done


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ROUND_S, check=False, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"the round took longer than {ROUND_S / 3600:.0f} h") from error
    if done.returncode not in (0, VANISHED):
        said = " ".join(done.stderr.strip().splitlines()[-3:])
        raise StepFailed(f"rsync failed ({done.returncode}): {said}")


def keep(one: Callable[[], Round], tell: Callable[[Round], None], every_s: float, said: Callable[[str], None]) -> None:
    """Carry out round after round, for ever; one that fails is tried again after as long.

    Args:
        one: Carries out a round.
        tell: Tells the control plane of it.
        every_s: How long to wait between rounds.
        said: Told what the first round was like, and each change between well and not.
    """
    before = None
    while True:
        problem = ""
        try:
            done = one()
            try:
                tell(done)
            except (LocalError, OSError) as error:
                log("the control plane could not be told of the replica", problem=str(error))
            if before is None:
                said(f"{done.target} is up to date, after {done.seconds:.1f} s; at most {done.bound_s:.0f} s are lost")
        except LocalError as error:
            problem = str(error)
        if problem != (before or ""):
            log("replica failed" if problem else "replica is kept again", problem=problem)
        before = problem
        time.sleep(every_s)
