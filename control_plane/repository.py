"""A bare git repository, by the git program: what the mirror needs of it, and nothing of what it means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane import tools
from control_plane.errors import Refused, Unavailable

BRANCH = "refs/heads/main"
COMMITTER = "TekUp control plane <control-plane@tekup.invalid>"
GIT_S = 60.0
_USER = re.compile(r"://[^/@\s]+@")


@dataclass(frozen=True)
class Commit:
    """A commit to make.

    Attributes:
        author: A name without blanks.
        at_s: Of author and committer alike, whole seconds since the epoch, so that the same commit has the same hash.
        message: Its text.
        files: All of them, by name.
    """

    author: str
    at_s: int
    message: str
    files: Mapping[str, bytes]


class Repository:
    """One repository.

    Args:
        folder: Where it lies; made when it is not there.
        program: Git.
    """

    def __init__(self, folder: Path, program: str = "git") -> None:
        self._folder = folder
        self._program = program

    async def ensure(self) -> None:
        """Make it where it is not there.

        Raises:
            Unavailable: Git cannot be run, or the folder not written.
        """
        if (self._folder / "HEAD").exists():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"{self._folder} cannot be made ({error.strerror}); see MCP_GIT_MIRROR") from error
        await self._git("init", "--quiet", "--bare", "--initial-branch=main")

    async def head(self) -> str:
        """The last commit's hash, "" where there is none."""
        return (await self._try("rev-parse", "--verify", "--quiet", f"{BRANCH}^{{commit}}")).strip()

    async def trailer(self, commit: str, name: str) -> str:
        """A trailer of a commit's message, "" where it has none."""
        said = await self._try("log", "-1", f"--format=%(trailers:key={name},valueonly)", commit)
        return said.strip()

    async def leads_to(self, older: str, newer: str) -> bool:
        """Whether a commit is another, or one of those before it; a commit that is not there is none."""
        code, _ = await self._run("merge-base", "--is-ancestor", older, newer)
        return code == 0

    async def add(self, parent: str, commits: Iterable[Commit]) -> str:
        """Put commits on top of one.

        Args:
            parent: Its hash, "" to begin.
            commits: In their order.

        Returns:
            The last one's hash.
        """
        stream = bytearray(b"feature done\n")
        for commit in commits:
            _put(stream, commit, parent)
            parent = ""  # of those after it, the one before
        stream += b"done\n"
        await self._git("fast-import", "--quiet", "--done", given=bytes(stream))
        return await self.head()

    async def remote_head(self, remote: str) -> str:
        """The last commit's hash at a remote, "" where it has none.

        Raises:
            Unavailable: It does not answer.
        """
        said = await self._git("ls-remote", remote, BRANCH)
        return said.split()[0] if said.split() else ""

    async def fetch(self, remote: str) -> None:
        """Take over the remote's branch, where there is none of our own."""
        await self._git("fetch", "--quiet", remote, f"{BRANCH}:{BRANCH}")

    async def push(self, remote: str) -> None:
        """Push the branch; never over another history.

        Raises:
            Unavailable: The remote does not take it.
        """
        await self._git("push", "--quiet", remote, f"{BRANCH}:{BRANCH}")

    async def _try(self, *arguments: str) -> str:
        code, said = await self._run(*arguments)
        return said if code == 0 else ""

    async def _git(self, *arguments: str, given: bytes = b"") -> str:
        code, said = await self._run(*arguments, given=given)
        if code:
            raise Unavailable(f"git {arguments[0]} failed in {self._folder}: {_USER.sub('://', said.strip())[-300:]}")
        return said

    async def _run(self, *arguments: str, given: bytes = b"") -> tuple[int, str]:
        env = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
        said = await tools.run(
            self._program,
            f"--git-dir={self._folder}",
            *arguments,
            hint="MCP_GIT_MIRROR needs it on PATH",
            within_s=GIT_S,
            env=env,
            given=given,
        )
        return said.code, said.out.decode(errors="replace") if said.code == 0 else said.all


def _put(stream: bytearray, commit: Commit, parent: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", commit.author):
        raise Refused(f"author {commit.author!r} cannot stand in a commit")
    at = f"{commit.at_s} +0000"
    message = commit.message.encode()
    stream += f"commit {BRANCH}\nauthor {commit.author} <{commit.author}@tekup.invalid> {at}\n".encode()
    stream += f"committer {COMMITTER} {at}\ndata {len(message)}\n".encode() + message + b"\n"
    stream += f"from {parent}\n".encode() if parent else b""
    stream += b"deleteall\n"
    for name, content in sorted(commit.files.items()):
        stream += f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n"
