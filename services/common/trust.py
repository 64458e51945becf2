"""Whom an instance believes: `X-Tekup-*` counts only with the gate's proof (docs/contracts.md, "Headers a service
gets").

Pure but for a cache. Everything fails closed: a proven gate that sends no grant must name one of the platform's own
callers (`~…`).
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.call import PROBE_CLIENT, STANDALONE_CLIENT, Call
from services.common.jsonrpc import Refusal
from services.common.rights import Access, Rights
from services.common.signing import Keyring
from services.common.tls import GATE

__all__ = ["TRUST_HEADERS", "Trust"]

_STANDALONE = Call(client=STANDALONE_CLIENT, internal=True)
_PROBE = Call(client=PROBE_CLIENT, internal=True)
TRUST_HEADERS: Final = frozenset(
    {b"x-tekup-gate", b"x-tekup-client", b"x-tekup-grant", b"x-tekup-call", b"x-tekup-copy"}
)


class _Grant(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    client: str
    key: str
    allow: tuple[str, ...]
    cohort: str = ""
    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    access: Access = Access.ALL
    subject: str = ""
    within: tuple[str, ...] | None = None

    @property
    def caller(self) -> str:
        """Who calls: the client, or the one of its users whose bearer it is."""
        return f"{self.client}~{self.subject}" if self.subject else self.client


@lru_cache(maxsize=4096)
def _call_of(grant: str) -> Call | None:
    """The call a grant stands for. Its MAC is the gate's business: whoever proved to be the gate brought it."""
    payload = grant.partition(".")[0]
    try:
        text = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
        content = _Grant.model_validate_json(text)
    except (binascii.Error, ValidationError):
        return None
    if content.subject and content.within is None:
        return None
    rights = Rights(content.allow, content.within, content.access)
    return Call(content.caller, content.key, rights, content.cohort, content.roots, content.hosts)


class Trust:
    """Turns the gate's headers into a `Call`.

    Args:
        keyring: The service's keys.
        standalone: Believe nobody, serve everybody.
        own_proof: Proves the instance itself, which calls itself before it is ready; known to nobody else.
        peer: With mutual TLS, whose certificate a call came with: then that proves the gate, and no header does.
    """

    def __init__(
        self, keyring: Keyring, *, standalone: bool, own_proof: str, peer: Callable[[], str] | None = None
    ) -> None:
        self._keyring = keyring
        self._proven: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())
        self._own_proof = own_proof.encode()
        self._standalone = standalone
        self._peer = peer

    def call_of(self, headers: Mapping[bytes, bytes]) -> Call:
        """Who is calling.

        Args:
            headers: The request's own `TRUST_HEADERS`, names in lower case.

        Returns:
            The call, its tool not yet known.

        Raises:
            Refusal: It did not come through the gate, or the gate's headers contradict themselves.
        """
        proof = headers.get(b"x-tekup-gate", b"")
        if hmac.compare_digest(proof, self._own_proof):
            return _PROBE
        if self._standalone:
            return _STANDALONE
        if self._peer is not None:
            if (peer := self._peer()) != GATE:
                raise _not_the_gate(f"its certificate is that of {peer or 'nobody'}")
        elif not any(hmac.compare_digest(proof, known) for known in self._proofs()):
            raise _not_the_gate("X-Tekup-Gate is missing or wrong")
        call = _identify(headers.get(b"x-tekup-client", b"").decode("latin-1"), headers.get(b"x-tekup-grant"))
        if b"x-tekup-call" not in headers and b"x-tekup-copy" not in headers:
            return call
        # The copy says so itself; its route does not tell, for with stable gone the mirror answers calls as well.
        shadow = headers.get(b"x-tekup-call", b"").decode("latin-1")
        return replace(call, shadow=shadow, copy=b"x-tekup-copy" in headers)

    def _proofs(self) -> tuple[bytes, ...]:
        keys = self._keyring.keys
        if self._proven[0] is not keys:
            self._proven = (keys, tuple(proof.encode() for proof in self._keyring.gate_proofs()))
        return self._proven[1]


def _identify(client: str, grant: bytes | None) -> Call:
    if grant is None:
        if not client.startswith("~"):
            raise _not_the_gate(f"X-Tekup-Client {client!r} comes without a grant")
        return Call(client=client, internal=True)
    call = _call_of(grant.decode("latin-1"))
    if call is None or call.client != client:
        raise _not_the_gate(f"X-Tekup-Grant is unreadable or not that of {client!r}")
    return call


def _not_the_gate(reason: str) -> Refusal:
    message = f"this service answers the gate only ({reason}); call the gate's /mcp instead, or start it stand-alone"
    return Refusal(403, 403, message)
