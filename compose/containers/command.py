"""Docker's command, for what is asked of an engine from outside."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from compose.local.errors import StepFailed
from compose.local.files import repository

COMMAND_S = 900.0
ASK_S = 60.0
TAIL = 15
NONE: Mapping[str, str] = MappingProxyType({})


def said(command: Sequence[str], *, env: Mapping[str, str] = NONE, given: bytes = b"", timeout_s: float = ASK_S) -> str:
    """What a command prints.

    Args:
        command: With its arguments.
        env: Variables besides ours.
        given: On its standard input.
        timeout_s: The most it may take.

    Raises:
        StepFailed: It failed; has its last lines.
    """
    return read(command, env=env, given=given, timeout_s=timeout_s).decode()


def read(
    command: Sequence[str], *, env: Mapping[str, str] = NONE, given: bytes = b"", timeout_s: float = ASK_S
) -> bytes:
    """The same, as it is.

    Raises:
        StepFailed: It failed; has its last lines.
    """
    line = " ".join(command[:3])
    try:
        done = subprocess.run(
            command, env={**os.environ, **env}, input=given, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise StepFailed("there is no command `docker` here; install Docker Engine with its plugin compose") from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"`{line}` took longer than {timeout_s:.0f} s") from error
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-TAIL:])
        raise StepFailed(f"`{line}` failed:\n{last}")
    return done.stdout


class Compose:
    """`docker compose` on one environment's file.

    Args:
        kind: `dev`, `staging`, `prod` or `swarm`.
        version: Tag of our images.
        env: Further variables for the file.

    Attributes:
        command: It, up to what is asked of it.
        env: The whole environment it runs in.
    """

    def __init__(self, kind: str, version: str, env: Mapping[str, str] = NONE) -> None:
        file = repository() / "compose" / f"docker-compose.{kind}.yml"
        self.command = ("docker", "compose", "--ansi", "never", "-f", str(file))
        self.env = {**os.environ, "VERSION": version, **env}

    def run(self, *args: str) -> str:
        """What it prints.

        Raises:
            StepFailed: It failed; has its last lines.
        """
        return self.read(*args).decode()

    def read(self, *args: str, given: bytes = b"") -> bytes:
        """The same, as it is, with something on its standard input.

        Raises:
            StepFailed: It failed; has its last lines.
        """
        return read([*self.command, *args], env=self.env, given=given, timeout_s=COMMAND_S)

    def containers(self) -> list[dict[str, object]]:
        """What `ps` says of each, those that have ended among them."""
        return [json.loads(line) for line in self.run("ps", "--all", "--format", "json").splitlines()]
