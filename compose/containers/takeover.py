"""What one machine's `setup` has made, handed to those of others: all secrets of an environment are made once.

The folders of gates are laid out on each machine; of them only the gate's keys are handed over.
"""

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from compose.local.credentials import gate_secrets_file, write_if_other
from compose.local.errors import StepFailed
from compose.local.layout import Layout


def hand_over(layout: Layout) -> None:
    """Write it to standard output, as a tar: the same files are the same bytes.

    Raises:
        StepFailed: A file cannot be read.
    """
    try:
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in _handed_over(layout):
                member = tarfile.TarInfo(str(path.relative_to(layout.state)))
                data = path.read_bytes()
                member.size, member.mode = len(data), path.stat().st_mode & 0o777
                archive.addfile(member, io.BytesIO(data))
    except OSError as error:
        raise StepFailed(f"{error.filename} cannot be read ({error.strerror})") from error


def _handed_over(layout: Layout) -> Iterator[Path]:
    gates = layout.gate.name
    for path in sorted(layout.state.rglob("*")):
        of_gate = path.relative_to(layout.state).parts[0].split("-")[0] == gates
        if path.is_file() and (not of_gate or path == gate_secrets_file(layout)):
            yield path


def take_in(packed: Path, layout: Layout) -> None:
    """Put each file in place; what is there and not among them stays.

    Args:
        packed: What `hand_over` wrote.
        layout: Where it goes.

    Raises:
        StepFailed: It cannot be read, or a file not be written.
    """
    try:
        with tarfile.open(packed) as archive:
            for member in archive:
                path = layout.state / member.name
                source = archive.extractfile(member)
                if source is None or not path.resolve().is_relative_to(layout.state.resolve()):
                    raise StepFailed(f"{packed} holds {member.name}, which is no file of ours; `tekup deploy` makes it")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_if_other(path, source.read().decode("utf-8"), member.mode)
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        raise StepFailed(f"{packed} cannot be taken over: {error}") from error
