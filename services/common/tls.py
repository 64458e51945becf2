"""TLS in which both sides show a certificate of Consul's CA, and the name in it counts instead of a host name.

A `LiveContext` may be given new certificates and roots at any time: connections that stand go on, new ones use the new.
"""

import ssl
import tempfile
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["GATE", "PEER", "LiveContext", "Peer", "current_peer", "peer_of"]

GATE: Final = "tekup-gate"
_PATH: Final = ("", "ns", "default", "dc", "*", "svc", "*")


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection.

    Attributes:
        name: As in its certificate, `mcp-<service>`, `tekup-gate`, `tekup-control-plane`.
        domain: Of the CA that says so.
        ends: When its certificate ends, seconds since the epoch.
    """

    name: str
    domain: str
    ends: float

    @property
    def overdue(self) -> bool:
        """Whether the certificate it came with has ended since."""
        return time.time() > self.ends


def peer_of(certificate: dict[str, Any] | None) -> Peer | None:
    """The peer of a checked certificate, as `ssl` shows one; None if it names nobody, or several.

    Args:
        certificate: What `SSLObject.getpeercert()` returns.
    """
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1 or certificate is None:
        return None
    parts = urlsplit(uris[0])
    path = parts.path.split("/")
    fits = len(path) == len(_PATH) and all(want in ("*", got) for want, got in zip(_PATH, path, strict=True))
    if parts.scheme != "spiffe" or not fits:
        return None
    return Peer(path[6], parts.netloc, ssl.cert_time_to_seconds(certificate["notAfter"]))


PEER: Final[ContextVar[Peer | None]] = ContextVar("peer", default=None)
"""Set by a handshake, and by nothing else but tests."""


def current_peer() -> Peer | None:
    """Who called, inside a request that came by a `LiveContext`; None anywhere else."""
    return PEER.get()


class _Checked(ssl.SSLObject):
    """A connection that stands only if the other side's name is accepted."""

    def do_handshake(self) -> None:
        context = self.context
        assert isinstance(context, _Context)  # noqa: S101  # nothing else makes one
        try:
            super().do_handshake()
            peer = peer_of(self.getpeercert())
            if peer is None or not context.accepts(peer):
                raise ssl.SSLCertVerificationError(f"the other side's certificate is that of {peer and peer.name!r}")
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on when more has come
        except ssl.SSLError as error:
            context.refused(getattr(error, "reason", "") or "NAME")  # only OpenSSL's own have a reason
            raise
        if self.server_side:
            # asyncio calls the server's protocol, which begins the connection's task, from inside the handshake's last
            # step: so the task, and each request's after it, has this value. Else everybody would be refused.
            # On our own calls to others it must not be set: they are made inside a request of somebody else.
            PEER.set(peer)


class _Context(ssl.SSLContext):
    accepts: Callable[[Peer], bool]
    refused: Callable[[str], None]


class LiveContext(ssl.SSLContext):
    """Hands each new connection to the context that is right now.

    Args:
        server_side: Which side we are.
        expects: Whose name the other side must have; "" leaves that to whoever reads `current_peer`.
    """

    expects: str
    protocols: Sequence[str] = ("http/1.1",)
    """All we speak between services; the benchmark that says why sets another (docs/decisions/0021)."""
    refused: Callable[[str], None]
    """Told why a connection was not made."""
    _server_side: bool
    _now: _Context | None

    def __new__(cls, *, server_side: bool, expects: str = "") -> "LiveContext":  # typeshed has no Self
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        made.expects, made._server_side, made._now = expects, server_side, None
        made.refused = lambda _reason: None
        return made

    def renew(self, *, chain: str, key: str, roots: str, domains: frozenset[str]) -> None:
        """From now on show this certificate, and trust these roots.

        Args:
            chain: The certificate and those between it and a root, PEM.
            key: Its key, PEM.
            roots: Whom to trust, PEM.
            domains: Whose names count.

        Raises:
            ssl.SSLError: Certificate and key do not fit.
        """
        context = _Context(ssl.PROTOCOL_TLS_SERVER if self._server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.sslobject_class = _Checked
        # Both ends are ours. And 1.3 without tickets is a whole handshake for each connection, so that what was
        # removed since cannot come back by an old session.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self._server_side:
            context.num_tickets = 0
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=roots)
        context.set_alpn_protocols(list(self.protocols))
        _load(context, chain, key)
        context.accepts = lambda peer: peer.domain in domains and self.expects in ("", peer.name)
        context.refused = self.refused
        self._now = context

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """A new connection, under the certificate of now."""
        if self._now is None:
            raise ssl.SSLError("there is no certificate yet")
        return self._now.wrap_bio(*args, **named)

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Whatever a library wishes, what is spoken is `protocols`."""


def _load(context: ssl.SSLContext, chain: str, key: str) -> None:
    # The ssl module reads certificates from files only.
    with tempfile.TemporaryDirectory(prefix="tekup-") as folder:
        path = Path(folder, "leaf.pem")
        path.touch(mode=0o600)
        path.write_text(f"{chain.rstrip()}\n{key}")
        context.load_cert_chain(path)
