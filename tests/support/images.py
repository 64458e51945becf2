"""The platform's own images on an engine, and containers of them as the Compose files harden them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compose.images.table import IMAGES
from observability.telemetry.about import platform_version
from tests.support.engine import Engine
from tests.support.engine_install import NoEngine, told
from tests.support.leftovers import LABEL

ROOT = Path(__file__).parents[2]
SECCOMP = ROOT / "compose" / "images" / "seccomp"
BUILD_S = 1800.0
HEALTHY_S = 240.0
POLL_S = 0.5


def our_images(engine: Engine, base: str, *arguments: str, folder: Path = ROOT) -> str:
    """Build the images as people do, from a checkout's folder; from the engine's cache where it has one.

    Args:
        engine: Where.
        base: What they stand on.
        arguments: Of `python -m compose.images build`.
        folder: The checkout.

    Returns:
        What the command printed: how long it took, and the sizes.

    Raises:
        NoEngine: It failed, or an image is above its bound.
    """
    command = [sys.executable, "-m", "compose.images", "build", "--base", base, *arguments]
    return told(command, timeout_s=BUILD_S, cwd=folder, env={**engine.env, "PYTHONPATH": str(folder)})


def tagged(name: str) -> str:
    """An image's name with its version."""
    return f"{IMAGES[name].repository}:{platform_version()}"


def hardened(name: str) -> list[str]:
    """Arguments of `docker run` that every container of ours gets."""
    profile = "chromium" if name == "browser" else "default"
    return [
        *("--init", "--read-only", "--tmpfs", "/tmp:size=256m", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--security-opt", f"seccomp={SECCOMP / profile}.json"),
    ]


@dataclass(frozen=True)
class Container:
    """A running container."""

    engine: Engine
    id: str

    def execute(self, *command: str) -> str:
        """What a command inside it prints.

        Raises:
            NoEngine: It failed.
        """
        return self.engine.docker("exec", self.id, *command)

    def log(self) -> str:
        """What its program has written."""
        return self.engine.docker("logs", self.id)

    def address(self, port: int) -> str:
        """Host and port on this machine where a port of its was published."""
        return self.engine.docker("port", self.id, str(port)).splitlines()[0]

    def healthy(self) -> None:
        """Wait until the engine calls it healthy."""
        deadline_s = time.monotonic() + HEALTHY_S
        while True:
            state = json.loads(self.engine.docker("inspect", self.id))[0]["State"]
            if state["Health"]["Status"] == "healthy":
                return
            assert state["Status"] == "running", f"it ended with {state['ExitCode']}: {self.log()}"
            assert time.monotonic() < deadline_s, f"not healthy in {HEALTHY_S:g} s: {state['Health']}, {self.log()}"
            time.sleep(POLL_S)


@contextmanager
def container(
    engine: Engine, prefix: str, image: str, *arguments: str, command: tuple[str, ...] = ()
) -> Iterator[Container]:
    """A container that runs inside the block and is removed after it.

    Args:
        engine: Where.
        prefix: The run's.
        image: Its image.
        arguments: Of `docker run`.
        command: Another than the image's.
    """
    made = engine.docker("run", "--detach", "--label", f"{LABEL}={prefix}", *arguments, image, *command)
    try:
        yield Container(engine, made)
    finally:
        engine.docker("rm", "--force", "--volumes", made)


def refused(engine: Engine, *arguments: str) -> str:
    """What `docker` says when it must fail.

    Raises:
        AssertionError: It did not fail.
    """
    try:
        said = engine.docker(*arguments)
    except NoEngine as error:
        return str(error)
    raise AssertionError(f"docker {' '.join(arguments)} should have failed, and said {said}")
