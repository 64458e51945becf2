"""The key of backups: an age identity in a file of its own, not in the environment it has to outlive.

Any age opens what it encrypts: `age --decrypt -i KEYFILE ARCHIVE | tar -tz`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyrage

from compose.local.errors import BadInput
from compose.local.files import PRIVATE, write_atomically

from .manifest import BackupRefused


def key_file(given: str) -> Path:
    """Where the key lies: where a setting says, else in this user's configuration."""
    home = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config")
    return Path(given) if given else home / "tekup-mcp" / "backup.key"


def make_key(path: Path) -> bool:
    """Make a key where there is none.

    Returns:
        Whether there was none.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = pyrage.x25519.Identity.generate()
    write_atomically(path, f"# opens backups of TekUp MCP; keep a copy elsewhere\n{identity}\n", PRIVATE)
    return True


def _identity(path: Path) -> pyrage.x25519.Identity:
    try:
        if path.stat().st_mode & 0o077:
            raise BadInput(f"{path} may be read by others; chmod 600 it")
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise BadInput(
            f"{path}, the key of backups, cannot be read ({error.strerror}); put it there, or name another by"
            " MCP_BACKUP_KEY_FILE"
        ) from error
    try:
        return pyrage.x25519.Identity.from_str(next(line for line in lines if line.startswith("AGE-SECRET-KEY-")))
    except (StopIteration, pyrage.IdentityError):
        raise BadInput(f"{path} holds no age identity (a line AGE-SECRET-KEY-…); restore it from its copy") from None


def encrypt(plain: Path, sealed: Path, key: Path) -> None:
    """Encrypt a file for whoever has the key.

    Raises:
        BadInput: There is no key, or it makes no sense.
    """
    pyrage.encrypt_file(str(plain), str(sealed), [_identity(key).to_public()])


def decrypt(sealed: Path, plain: Path, key: Path) -> None:
    """Decrypt a file.

    Raises:
        BadInput: There is no such file, no key, or it makes no sense.
        BackupRefused: It was encrypted for another key, or is damaged.
    """
    identity = _identity(key)
    if not sealed.is_file():
        raise BadInput(f"there is no backup {sealed}; `tekup backup list` shows what there is")
    try:
        pyrage.decrypt_file(str(sealed), str(plain), [identity])
    except (pyrage.DecryptError, OSError) as error:
        plain.unlink(missing_ok=True)
        raise BackupRefused(
            f"{sealed.name} cannot be opened with {key} ({error}): it is damaged, or encrypted for another key."
            " Nothing was touched"
        ) from error
