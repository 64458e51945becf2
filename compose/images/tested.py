"""Which images have been tested, by their ids: written where the container tests passed, asked before a deployment.

An id is the digest of an image's configuration, which names every layer: another byte anywhere is another id, on
whatever engine (Docker's, OCI image specification, "Image ID").
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from compose.images.engine import docker
from compose.images.errors import ImageError
from compose.images.table import IMAGES
from compose.local.files import repository, write_atomically

KEPT = 200
"""Ids that are remembered; older ones are forgotten first."""
Ids = Mapping[str, str]


def record_file() -> Path:
    """Where it is written, unless told otherwise; it belongs to a checkout and what was built from it."""
    return repository() / "build" / "tested-images.json"


def ids_of(tag: str, names: Iterable[str] = tuple(IMAGES)) -> dict[str, str]:
    """The id of each of our images under a tag.

    Args:
        tag: A version, or `latest`.
        names: Which of them.

    Raises:
        ImageError: One is not there.
    """
    found = {}
    for name in names:
        image = f"{IMAGES[name].repository}:{tag}"
        asked = docker("image", "inspect", "--format", "{{.Id}}", image)
        if asked.returncode != 0:
            raise ImageError(f"the engine has no image {image}; `make images` builds it, or pull it")
        found[image] = asked.stdout.strip()
    return found


def known(record: Path) -> dict[str, str]:
    """Each id that was tested, and when.

    Args:
        record: The file; none is none tested.

    Raises:
        ImageError: It cannot be read.
    """
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        return {str(image): str(at) for image, at in said["tested"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ImageError(f"{record} cannot be read ({error}); run `make test-docker` to write it anew") from error


def note(ids: Ids, record: Path) -> None:
    """Write down that these were tested now.

    Args:
        ids: By image.
        record: The file.

    Raises:
        ImageError: What is there cannot be read.
    """
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    before = {image: when for image, when in known(record).items() if image not in ids.values()}
    kept = dict(list({**before, **dict.fromkeys(ids.values(), at)}.items())[-KEPT:])
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps({"tested": kept}, indent=1) + "\n")


def untested(ids: Ids, record: Path) -> list[str]:
    """Those of some images that were not tested, with their ids.

    Args:
        ids: By image.
        record: The file.

    Raises:
        ImageError: It cannot be read.
    """
    good = known(record)
    return [f"{image} ({identifier.removeprefix('sha256:')[:12]})" for image, identifier in ids.items()
            if identifier not in good]  # fmt: skip
