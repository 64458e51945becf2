"""The supervisor's own log: one JSON object a line, and the bound on every log file's size."""

import contextlib
import json
import shutil
import time
from pathlib import Path


def log(event: str, **fields: object) -> None:
    """Write an event and its fields to standard output."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
    with contextlib.suppress(OSError):  # a full disk must not end what is supervised
        print(json.dumps({"ts": at, "event": event, **fields}, default=str), flush=True)


def bound(folder: Path, largest_bytes: int, kept: int = 1) -> list[str]:
    """Cut every log file that has grown too large; the last full one is kept as `<name>.log.1`, older ones behind.

    The file is emptied in place, since its writer holds it open and appends; lines written between the copy
    and the emptying are lost.

    Args:
        folder: where the logs are.
        largest_bytes: the size from which a file is cut.
        kept: how many full ones are kept of each.

    Returns:
        The names of the files cut.
    """
    cut = []
    for path in folder.glob("*.log"):
        if path.stat().st_size > largest_bytes:
            _move_up(path, kept)
            shutil.copyfile(path, _part(path, 1))
            with path.open("r+b") as file:
                file.truncate(0)
            cut.append(path.name)
    return cut


def _move_up(path: Path, kept: int) -> None:
    """Make room for a new part; what is beyond those kept, by an earlier setting too, goes."""
    numbers = [int(part.suffix[1:]) for part in path.parent.glob(f"{path.name}.*") if part.suffix[1:].isdecimal()]
    for number in sorted(numbers, reverse=True):
        if number >= kept:
            _part(path, number).unlink()
        else:
            _part(path, number).rename(_part(path, number + 1))


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
