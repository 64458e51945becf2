"""TLS in which both sides show certificates of Consul's CA, for the control plane's own calls.

The context may be renewed at any time: connections that stand go on, new ones use the new certificate.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Any

from control_plane.authority import Authority


class _Checked(ssl.SSLObject):
    """A connection that stands only if the other side has the name that is expected."""

    def do_handshake(self) -> None:
        super().do_handshake()
        names = (self.getpeercert() or {}).get("subjectAltName", ())
        context = self.context
        expected = context.expects if isinstance(context, _Context) else ""
        if names != (("URI", expected),):
            raise ssl.SSLCertVerificationError(f"the other side is not {expected} but {names}")


class _Context(ssl.SSLContext):
    expects: str


class MutualTls(ssl.SSLContext):
    """For connections of this process to one other name; hands each to the context that is right now.

    Make it with :func:`mutual_tls`.
    """

    authority: Authority
    expects: str
    now: _Context | None

    def renew(self) -> None:
        """Show and trust what the authority says now."""
        leaf = self.authority.leaf
        if leaf is None or not self.authority.known:
            return
        context = _Context(ssl.PROTOCOL_TLS_CLIENT)
        context.sslobject_class = _Checked
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority.roots)
        # The ssl module reads certificates from files only.
        with tempfile.TemporaryDirectory(prefix="tekup-") as folder:
            path = Path(folder, "leaf.pem")
            path.touch(mode=0o600)
            path.write_text(f"{leaf.chain.rstrip()}\n{leaf.key}")
            context.load_cert_chain(path)
        context.expects = f"{leaf.authority}/svc/{self.expects}"
        self.now = context

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """A new connection, under the certificate of now."""
        if self.now is None:
            raise ssl.SSLError("Consul has not given this process its certificate yet")
        return self.now.wrap_bio(*args, **named)


def mutual_tls(authority: Authority, expects: str) -> MutualTls:
    """A context for connections to whoever is called ``expects``, renewed whenever the authority's word changes."""
    made = MutualTls(ssl.PROTOCOL_TLS_CLIENT)
    made.authority, made.expects, made.now = authority, expects, None
    authority.on_change(made.renew)
    made.renew()
    return made
