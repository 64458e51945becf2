"""Signed values of one service: handles and the gate's proof (docs/contracts.md, "Signed values").

No I/O. The first key signs, every key is accepted, so a key can be replaced while instances run.
"""

import base64
import hmac
import secrets

__all__ = ["Keyring"]

_TAG_LENGTH = 22


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Keyring:
    """A service's keys; they may be renewed while it is in use, so nobody keeps what was made out of them.

    Args:
        keys: 32 bytes each, the current one first.
    """

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys now, the current one first."""
        return self._keys

    def renew(self, keys: tuple[bytes, ...]) -> None:
        """Use these from now on."""
        if keys != self._keys:
            self._keys = keys

    def sign_handle(self, instance: str, client: str) -> str:
        """A new handle of `instance` for `client`: `<instance>.<random>.<tag>`."""
        body = f"{instance}.{_b64(secrets.token_bytes(16))}"
        return f"{body}.{self._tag(self.keys[0], body, client)}"

    def checks_handle(self, handle: str, client: str) -> bool:
        """Whether one of the keys made `handle` for `client`."""
        body, _, tag = handle.rpartition(".")
        given = tag.encode()
        return any(hmac.compare_digest(self._tag(key, body, client).encode(), given) for key in self.keys)

    def gate_proofs(self) -> tuple[str, ...]:
        """The values of `X-Tekup-Gate` that prove the gate."""
        return tuple(_mac(key, "gate").hex() for key in self.keys)

    def caller_proof(self) -> str:
        """The value of `X-Tekup-Proof` this service proves itself with to the gate."""
        return _mac(self.keys[0], "caller").hex()

    @staticmethod
    def _tag(key: bytes, body: str, client: str) -> str:
        return _b64(_mac(key, f"{body}.{client}"))[:_TAG_LENGTH]
