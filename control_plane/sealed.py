"""Hashes of API keys as they may lie in Consul: sealed by a key that does not lie there (`MCP_API_KEY_ENCRYPTION`).

A sealed hash is ``sealed.<id of the sealing key>.<b64(nonce, ciphertext, tag)>``: AES-256-GCM, bound to the API key's
id and client, so that it opens nothing under another's name. Leader and agents alone hold the sealing keys: a file,
0600, ``{"keys": ["<64 hex digits>", …]}``, the current one first. Nothing of it is ever part of a message.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.errors import Refused
from control_plane.model import Key
from control_plane.signed import b64

SETTING = "MCP_API_KEY_ENCRYPTION_KEY_FILE"
MARK = "sealed."
NONCE_BYTES = 12


class _File(BaseModel):
    """The file of sealing keys."""

    model_config = ConfigDict(extra="forbid")

    keys: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...], Field(min_length=1, max_length=16)
    ]


@dataclass(frozen=True)
class Ring:
    """Sealing keys by their ids; the current one is the first. An empty one opens nothing and seals nothing."""

    ciphers: Mapping[str, AESGCM] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[str]) -> Ring:
        """From keys in hex, the current one first."""
        raws = [bytes.fromhex(key) for key in keys]
        return cls({_id_of(raw): AESGCM(raw) for raw in raws})

    @property
    def current(self) -> str:
        """The id of the key that seals, "" without one."""
        return next(iter(self.ciphers), "")

    def seal(self, key: Key) -> Key:
        """An API key with its hash sealed by the current key.

        Raises:
            Refused: There is no sealing key, or the hash cannot be opened first.
        """
        if not self.ciphers:
            raise Refused(f"key {key.id} cannot be sealed: there is no sealing key; name their file in {SETTING}")
        if sealed_by(key) == self.current:
            return key
        bare = bytes.fromhex(self.open(key).hash)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self.ciphers[self.current].encrypt(nonce, bare, _bound(key))
        return key.model_copy(update={"hash": f"{MARK}{self.current}.{b64(sealed)}"})

    def open(self, key: Key) -> Key:
        """An API key with its bare hash.

        Raises:
            Refused: It was sealed by a key that is not here, or for another API key, or was changed.
        """
        who = sealed_by(key)
        if not who:
            return key
        cipher = self.ciphers.get(who)
        if cipher is None:
            raise Refused(f"sealed by key {who}, which is not in the file that {SETTING} names; add it there")
        raw = base64.urlsafe_b64decode(key.hash.rsplit(".", 1)[1])
        try:
            bare = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(key))
        except InvalidTag:
            raise Refused("its sealed hash was made for another key or changed by another hand; revoke it") from None
        return key.model_copy(update={"hash": bare.hex()})


NO_RING = Ring()


def sealed_by(key: Key) -> str:
    """The id of the key that sealed it, "" for a bare hash."""
    return key.hash.split(".")[1] if key.hash.startswith(MARK) else ""


def _id_of(raw: bytes) -> str:
    return hashlib.sha256(b"tekup sealing key\0" + raw).hexdigest()[:8]


def _bound(key: Key) -> bytes:
    return f"tekup API key\0{key.id}\0{key.client}".encode()


def read_ring(path: Path) -> Ring:
    """The sealing keys of a file.

    Raises:
        Refused: It is missing, makes no sense, or may be read by others.
    """
    where = f"settings:\n  {SETTING}: {path}"
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"{where} may be read by others; chmod 600 it")
        return Ring.of(_File.model_validate_json(path.read_bytes()).keys)
    except OSError as error:
        raise Refused(f"{where} cannot be read: {os.strerror(error.errno or 0)}") from error
    except ValidationError:
        # What pydantic says of it quotes what it found.
        raise Refused(f'{where} must be {{"keys": ["<64 hex digits>", …]}}, the current one first') from None


class RingFile:
    """A file of sealing keys that may change while we run; once read, the last good ring stays.

    Args:
        path: The file; None: there is none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._ring = NO_RING
        self.problem = ""

    def ring(self) -> Ring:
        """The keys as they are now; the same object as long as the file is the same."""
        if self._path is None:
            return self._ring
        identity = self._identity(self._path)
        if identity != self._seen or identity is None:
            try:
                self._ring, self.problem = read_ring(self._path), ""
            except Refused as error:
                self.problem = " ".join(str(error).removeprefix("settings:").split())
            self._seen = identity
        return self._ring

    @staticmethod
    def _identity(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_mode, found.st_ino


@dataclass(frozen=True)
class Sealing:
    """How hashes are to lie in the store.

    Attributes:
        file: The sealing keys.
        on: Whether they are to be sealed.
    """

    file: RingFile = field(default_factory=lambda: RingFile(None))
    on: bool = False

    def stored(self, key: Key) -> Key:
        """An API key as it is to lie in the store; one that lies there so comes back unchanged.

        Raises:
            Refused: It cannot be sealed, or opened.
        """
        ring = self.file.ring()
        return ring.seal(key) if self.on else ring.open(key)
