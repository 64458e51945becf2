"""The image of the collector: nobody publishes one with just the components that our configuration uses."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from compose.containers.third_party import THIRD_PARTIES
from compose.images.engine import docker
from compose.images.errors import ImageError
from compose.local.errors import LocalError
from compose.local.programs import Resolver
from compose.local.progress import PlainLines

NAME = "collector"
BUILD_S = 600.0


def build_collector(base: str) -> str:
    """Build it around the program, which is built too where it is not in the cache (with Go, about five minutes).

    Args:
        base: The image it stands on.

    Returns:
        Its name and tag.

    Raises:
        ImageError: The program or the image could not be built.
    """
    try:
        program = asyncio.run(Resolver(PlainLines()).find(NAME)).path
    except LocalError as error:
        raise ImageError(str(error)) from error
    image = THIRD_PARTIES[NAME].image
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(program, Path(folder, NAME))
        shutil.copy(Path(__file__).with_name("collector.Dockerfile"), Path(folder, "Dockerfile"))
        built = docker("build", "--build-arg", f"BASE_IMAGE={base}", "--tag", image, folder, timeout_s=BUILD_S)
    if built.returncode != 0:
        raise ImageError(f"{image} could not be built: {built.stderr.strip()[-2000:]}")
    return image
