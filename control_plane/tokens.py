"""The token a process shows Consul: in a 0600 file, read again when it has been replaced."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from control_plane.errors import Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """A token as its file held it.

    Attributes:
        secret: Never shown.
        written_s: When the file was written, seconds since the epoch.
    """

    secret: str
    written_s: float

    def __repr__(self) -> str:
        return f"Token(written_s={self.written_s})"


class TokenFile:
    """A file that holds one token.

    Args:
        path: Where it lies.

    Raises:
        Refused: It cannot be read, is empty, or may be read by others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._look()
        self._token = self._read(self._identity)

    def current(self) -> Token:
        """The token now; the one before while the file is missing or makes no sense."""
        try:
            identity = self._look()
            if identity != self._identity:
                self._identity, self._token = identity, self._read(identity)
                log.info("consul.token_replaced", extra={"path": str(self._path)})
        except Refused as error:
            log.warning("consul.token_kept", extra={"why": str(error)})
        return self._token

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise Refused(self._about(f"cannot be read: {error.strerror}")) from error
        if found.st_mode & 0o077:
            raise Refused(self._about("may be read by others; chmod 600 it"))
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self, identity: tuple[int, int, int]) -> Token:
        try:
            secret = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise Refused(self._about("cannot be read as a token")) from error
        if not secret:
            raise Refused(self._about("is empty"))
        return Token(secret, identity[0] / 1e9)

    def _about(self, what: str) -> str:
        return f"settings:\n  MCP_CONSUL_TOKEN_FILE: {self._path} {what}"
