"""Seals half-done calls with the service's keys of now, so that any of its instances can go on with another's."""

from mcp.server.request_state import AESGCMRequestStateCodec

from services.common.signing import Keyring

__all__ = ["RingCodec"]


class RingCodec:
    """The SDK's own codec, made anew when the keys are renewed.

    Args:
        keyring: The service's keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._made: tuple[tuple[bytes, ...], AESGCMRequestStateCodec] | None = None

    def seal(self, payload: bytes) -> str:
        """The payload, sealed with the current key."""
        return self._codec().seal(payload)

    def unseal(self, token: str) -> bytes:
        """What was sealed with the current key or the one before; raises as the SDK's codec does."""
        return self._codec().unseal(token)

    def _codec(self) -> AESGCMRequestStateCodec:
        keys = self._keyring.keys
        if self._made is None or self._made[0] is not keys:
            self._made = (keys, AESGCMRequestStateCodec(keys))
        return self._made[1]
