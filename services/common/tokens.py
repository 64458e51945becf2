"""The token an instance shows Consul: in a 0600 file, read again when it has been replaced."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Token", "TokenFile", "problem_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """A token as its file held it.

    Args:
        secret: "" for none; never shown.
        written_s: When the file was written, in seconds since the epoch.
    """

    secret: str = field(default="", repr=False)
    written_s: float = 0.0


class TokenFile:
    """A file that holds one token.

    Args:
        path: Where it lies; None for no token at all.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = Token()

    def current(self) -> Token:
        """The token now; the one before while the file is missing or makes no sense."""
        if self._path is None:
            return self._token
        try:
            found = self._path.stat()
            identity = (found.st_mtime_ns, found.st_size, found.st_ino)
            if identity != self._seen:
                secret = _read(self._path)
                self._seen, self._token = identity, Token(secret, found.st_mtime_ns / 1e9)
                logger.info("registry.token_read", extra={"path": str(self._path)})
        except (OSError, ValueError) as error:
            logger.warning("registry.token_kept", extra={"path": str(self._path), "reason": str(error)})
        return self._token


def problem_of(path: Path) -> str:
    """What is wrong with a token's file, "" if nothing is."""
    try:
        mode = path.stat().st_mode
        _read(path)
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be read'}"
    except ValueError as error:
        return f"{path}: {error}"
    return f"{path}: may be read by others; chmod 600 it" if mode & 0o077 else ""


def _read(path: Path) -> str:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        secret = ""  # the error's own text would repeat a part of it
    if not secret:
        raise ValueError("holds no token")
    return secret
