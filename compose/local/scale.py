"""How many instances of each version are wanted; remembered in a file."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import BadInput
from .files import write_atomically
from .status import Wish
from .table import Process, Table

VERSION = re.compile(r"[0-9A-Za-z.]{1,32}")
WISH = re.compile(r"(?P<service>[a-z][a-z0-9_-]*)=(?P<number>[0-9]{1,3})")
"""ASCII and short, unlike `isdigit`: "²" is a digit but no number, and `int` refuses thousands of digits."""
MOST_INSTANCES = 50
"""Per version: a slip of the finger should not take the machine down."""
SHOWN = 40
"""So much of what was typed is repeated in an error."""

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


def read_wish(text: str, version: str) -> Wish:
    """What somebody means by SERVICE=N.

    Raises:
        BadInput: it is something else, or N is too large.
    """
    found = WISH.fullmatch(text)
    if found and int(found["number"]) <= MOST_INSTANCES:
        return Wish(service=found["service"], version=version, count=int(found["number"]))
    shown = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    what = "names no service" if text.startswith("=") else "is not SERVICE=N"
    raise BadInput(f"{shown!r} {what}; for example filesystem=3, and at most {MOST_INSTANCES}")


def checked(table: Table, wish: Wish) -> Wish:
    """Check a wish.

    Args:
        table: what there is.
        wish: any label may be a version.

    Returns:
        The wish with the version meant.

    Raises:
        BadInput: unknown service, impossible version or count.
    """
    found = table.service(wish.service)
    if found is None:
        known = ", ".join(item.name for item in table.services)
        raise BadInput(f"there is no service {wish.service!r}; there are: {known}")
    version = wish.version or found.version
    if not VERSION.fullmatch(version):
        raise BadInput(f"{version!r} is no version: up to 32 letters, digits and dots")
    if not 0 <= wish.count <= MOST_INSTANCES:
        raise BadInput(f"{wish.count} instances of {found.name} {version}: it must be 0 to {MOST_INSTANCES}")
    return Wish(service=found.name, version=version, count=wish.count)


def instances(table: Table, scale: Scale) -> Iterable[Instance]:
    """All instances that should run. A lower number never renames or moves those that stay."""
    for service in table.services:
        for version, count in sorted(scale.get(service.name, {}).items()):
            for number in range(1, count + 1):
                first = version == service.version and number == 1
                name = f"{service.name}-{version}-{number}"
                yield Instance(name, version, service.port if first else 0, service.pattern)
