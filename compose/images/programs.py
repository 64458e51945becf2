"""Programs of others that an image holds: found or built on this machine as everywhere, then put into the context.

A build by Go inside of the Dockerfile would take minutes for each engine that has not seen it; the resolver keeps what
it has built from pinned sources in the user's cache.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from compose.images.errors import ImageError
from compose.local.errors import LocalError
from compose.local.files import repository
from compose.local.programs import Resolver
from compose.local.progress import PlainLines

__all__ = ["place_programs"]

FOLDER: Final = Path("build/programs")
DATED_S: Final = 315532800
"""As all files of the images, so that building a commit again gives the same layer."""


def place_programs(names: Sequence[str]) -> None:
    """Put programs where the Dockerfile finds them.

    Args:
        names: Which, of `compose.local.programs`.

    Raises:
        ImageError: One cannot be had, or not be written there.
    """
    if not names:
        return
    try:
        found = [asyncio.run(Resolver(PlainLines()).find(name)) for name in names]
        folder = repository() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for one in found:
            _put(one.path, folder / one.name)
    except LocalError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"{FOLDER} cannot be written: {error}") from error


def _put(program: Path, target: Path) -> None:
    beside = target.with_suffix(f".{os.getpid()}")
    shutil.copyfile(program, beside)
    beside.chmod(0o755)
    os.utime(beside, (DATED_S, DATED_S))
    beside.replace(target)
