"""The supervisor's own log: one JSON object a line, and the bound on every log file's size."""

import contextlib
import json
import shutil
import time
from pathlib import Path

LARGEST_BYTES = 10 * 1024 * 1024


def log(event: str, **fields: object) -> None:
    """Write an event and its fields to standard output."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
    with contextlib.suppress(OSError):  # a full disk must not end what is supervised
        print(json.dumps({"ts": at, "event": event, **fields}, default=str), flush=True)


def bound(folder: Path, largest_bytes: int = LARGEST_BYTES) -> list[str]:
    """Cut every log file that has grown too large; the last full one is kept as `<name>.log.1`.

    The file is emptied in place, since its writer holds it open and appends; lines written between the copy
    and the emptying are lost.

    Args:
        folder: where the logs are.
        largest_bytes: the size from which a file is cut.

    Returns:
        The names of the files cut.
    """
    cut = []
    for path in folder.glob("*.log"):
        if path.stat().st_size > largest_bytes:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            with path.open("r+b") as file:
                file.truncate(0)
            cut.append(path.name)
    return cut
