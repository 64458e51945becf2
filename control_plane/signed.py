"""Grants and digests: the values other parts check byte for byte (``docs/contracts.md``, "Signed values")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from control_plane.errors import Refused
from control_plane.model import ClientPolicy, Key, Table, TableSum, compact_json

GRANT_LIMIT_BYTES = 4096
KEY_ID_DIGITS = 10


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Bearer:
    """Who calls with a bearer of an authorization server instead of a key.

    Attributes:
        subject: Tells the users of one client apart: 16 hex digits.
        expires: When the bearer ends, in seconds since the epoch.
        within: Globs that its scopes cover; a name must be covered by these as well.
    """

    subject: str
    expires: int
    within: tuple[str, ...]


def grant(client: ClientPolicy, key_id: str, mac_key: bytes, bearer: Bearer | None = None) -> str:
    """What the gate tells services about a caller, signed.

    Args:
        client: The client whose rights it carries.
        key_id: The API key it stands for, "" with a bearer; it is looked up again wherever the grant is used instead
            of the key.
        mac_key: The gate's MAC key, 32 bytes.
        bearer: Whose bearer it stands for instead of a key.

    Returns:
        ``<b64(payload)>.<b64(HMAC-SHA256)>``.

    Raises:
        Refused: The grant would be longer than 4 KiB.
    """
    payload = {
        "v": 1,
        "client": client.id,
        "key": key_id,
        "allow": client.allow,
        "cohort": client.cohort,
        "roots": client.roots,
        "hosts": client.hosts,
        "access": client.access,
        **(asdict(bearer) if bearer else {}),
    }
    body = b64(compact_json(payload).encode())
    text = f"{body}.{b64(hmac.digest(mac_key, body.encode(), 'sha256'))}"
    if len(text) > GRANT_LIMIT_BYTES:
        raise Refused(
            f"client {client.id}: its rights make a grant of {len(text)} bytes, more than {GRANT_LIMIT_BYTES};"
            " use fewer or broader globs"
        )
    return text


@dataclass(frozen=True)
class NewKey:
    """A key just made: the document to keep, and the secret to show once."""

    document: Key
    text: str


def new_key(client: str, now_s: float, label: str, expires_s: int) -> NewKey:
    """Make an API key of a client.

    Args:
        client: Whose key it is.
        now_s: Seconds since the epoch.
        label: Free text for people.
        expires_s: Seconds since the epoch, 0 for never.
    """
    key_id = secrets.token_hex(KEY_ID_DIGITS // 2)
    text = f"tk_{key_id}_{secrets.token_hex(24)}"
    # Plain sha256 suffices: the secret part has 192 random bits, so there is nothing to guess.
    digest = hashlib.sha256(text.encode()).hexdigest()
    document = Key(id=key_id, client=client, hash=digest, created=int(now_s), expires=expires_s, label=label)
    return NewKey(document, text)


def table_sum(documents: Mapping[str, bytes]) -> TableSum:
    """Digest of a table.

    Args:
        documents: Raw documents by their key below the table's prefix.
    """
    return TableDigest().sum(documents)


class TableDigest:
    """Digests of a table that changes: of 10,000 documents, those that are as before are not hashed again."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[bytes, bytes]] = {}

    def sum(self, documents: Mapping[str, bytes]) -> TableSum:
        """See :func:`table_sum`."""
        before, lines = self._lines, dict[str, tuple[bytes, bytes]]()
        for key in sorted(documents):
            raw, held = documents[key], before.get(key)
            lines[key] = held if held and held[0] == raw else (raw, _line(key, raw))
        self._lines = lines
        whole = hashlib.sha256(b"".join(line for _, line in lines.values()))
        return TableSum(sha256=whole.hexdigest(), count=len(documents))


class TableDigests:
    """Digests of all tables; of the same mapping one is taken once."""

    def __init__(self) -> None:
        self._digests = {table: TableDigest() for table in Table}
        self._sums: dict[Table, tuple[Mapping[str, bytes], TableSum]] = {}

    def sum(self, table: Table, raws: Mapping[str, bytes]) -> TableSum:
        """See :func:`table_sum`."""
        held = self._sums.get(table)
        if held is None or held[0] is not raws:
            held = self._sums[table] = raws, self._digests[table].sum(raws)
        return held[1]


def _line(key: str, raw: bytes) -> bytes:
    return f"{key}\0{hashlib.sha256(raw).hexdigest()}\n".encode()
