"""How many instances of each version are wanted; remembered in a file."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import BadInput
from .files import write_atomically
from .table import Process, Table

VERSION = re.compile(r"[0-9A-Za-z.]{1,32}")
MOST_INSTANCES = 50
"""Per version: a slip of the finger should not take the machine down."""

Scale = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Instance:
    """One instance that should run."""

    name: str
    version: str
    port: int
    process: Process


def read_scale(path: Path, table: Table) -> Scale:
    """What is wanted: the remembered numbers, one instance of each service where nothing was said."""
    try:
        remembered = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        remembered = {}
    scale: Scale = {service.name: {service.version: 1} for service in table.services}
    for name, versions in remembered.items() if isinstance(remembered, dict) else ():
        if name in scale and isinstance(versions, dict):
            scale[name] |= {str(version): count for version, count in versions.items() if isinstance(count, int)}
    return scale


def write_scale(path: Path, scale: Scale) -> None:
    """Remember what is wanted."""
    write_atomically(path, json.dumps(scale, indent=1, sort_keys=True) + "\n")


def checked(table: Table, service: str, version: str, count: int) -> tuple[str, str]:
    """Check a wish.

    Args:
        table: what there is.
        service: its name.
        version: any label; "" for the version of the first instance.
        count: how many are wanted.

    Returns:
        The service's name and the version meant.

    Raises:
        BadInput: unknown service, impossible version or count.
    """
    found = table.service(service)
    if found is None:
        known = ", ".join(item.name for item in table.services)
        raise BadInput(f"there is no service {service!r}; there are: {known}")
    version = version or found.version
    if not VERSION.fullmatch(version):
        raise BadInput(f"{version!r} is no version: up to 32 letters, digits and dots")
    if not 0 <= count <= MOST_INSTANCES:
        raise BadInput(f"{count} instances of {service} {version}: it must be 0 to {MOST_INSTANCES}")
    return found.name, version


def instances(table: Table, scale: Scale) -> Iterable[Instance]:
    """All instances that should run. A lower number never renames or moves those that stay."""
    for service in table.services:
        for version, count in sorted(scale.get(service.name, {}).items()):
            for number in range(1, count + 1):
                first = version == service.version and number == 1
                name = f"{service.name}-{version}-{number}"
                yield Instance(name, version, service.port if first else 0, service.pattern)
