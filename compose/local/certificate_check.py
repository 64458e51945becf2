"""What `tekup doctor` looks at of the gate's certificate: its source, what clients trust, and what is really served."""

import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from .authority import CA_LEFT, read_authority
from .certificates import Pair, Shelf, is_issued_by, judge
from .errors import BadCertificate
from .layout import Layout
from .settings import Settings
from .trust import gateway, source_of

HANDSHAKE_S = 5.0
SOON = timedelta(days=21)
SHARE = 4
"""A certificate ends soon when less than `SOON`, and less than this part of its life, is left."""


class Seen(NamedTuple):
    """One thing looked at."""

    ok: bool
    said: str
    remedy: str = ""


def certificate_seen(layout: Layout, settings: Settings, address: str, now: datetime) -> Iterator[Seen]:
    """Look at everything that a client's trust hangs on; nothing without TLS.

    Args:
        layout: the environment.
        settings: in force.
        address: where the gate listens, "" if it does not run.
        now: the time.
    """
    if settings.tls == "off" or not layout.gate.is_dir():
        return
    in_place = Shelf(layout.gate).in_place()
    try:
        pair = source_of(layout, settings)(in_place, now)
        yield _lasting(judge(pair, now), now)
        yield from _trusted(layout, settings, pair, now)
    except BadCertificate as error:
        stays = "; the gate goes on with the last good one" if in_place else ""
        remedy = "put it right; a running gate takes it up by itself, else `tekup up`"
        yield Seen(False, f"{error}{stays}", remedy)
    if address:
        yield _served(gateway(layout, settings, address).name, address, in_place, now)


def _lasting(leaf: x509.Certificate, now: datetime) -> Seen:
    end, left = leaf.not_valid_after_utc, leaf.not_valid_after_utc - now
    soon = left < min(SOON, (end - leaf.not_valid_before_utc) / SHARE)
    remedy = "renew it; a running gate takes new files up by itself (tekup logs certificate)"
    return Seen(not soon, f"good until {end:%Y-%m-%d %H:%M} UTC{', which is soon' if soon else ''}", remedy)


def _trusted(layout: Layout, settings: Settings, pair: Pair, now: datetime) -> Iterator[Seen]:
    if settings.tls == "local":
        end = read_authority(layout.authority)[0].not_valid_after_utc
        said = f"the development authority ends at {end:%Y-%m-%d}"
        remedy = "`tekup down` and `tekup up` make a new one; clients have to trust it anew"
        yield Seen(end - now > CA_LEFT, said, remedy)
    elif settings.tls_ca_file:
        top = x509.load_pem_x509_certificates(pair.chain.encode())[-1]
        remedy = "MCP_TLS_CA_FILE names the file of certificates that clients are to trust"
        try:
            roots = x509.load_pem_x509_certificates(Path(settings.tls_ca_file).read_bytes())
        except (OSError, ValueError) as error:
            yield Seen(False, f"the authority {settings.tls_ca_file} cannot be read: {error}", remedy)
            return
        ok = top in roots or any(is_issued_by(top, root) for root in roots)
        yield Seen(ok, f"its chain {'ends' if ok else 'does not end'} in {settings.tls_ca_file}", remedy)


def _served(name: str, address: str, in_place: Pair | None, now: datetime) -> Seen:
    remedy = "tekup logs traefik; tekup restart traefik"
    try:
        served = _handshake(name, address)
    except (OSError, ValueError) as error:
        return Seen(False, f"the gate does not complete a handshake for {name}: {error}", remedy)
    if served.not_valid_after_utc < now:
        return Seen(
            False, f"the gate serves one that expired at {served.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", remedy
        )
    same = in_place is not None and served == in_place.leaf()
    return Seen(same, f"the gate serves {'it' if same else 'another one than it was told to'}", remedy)


def _handshake(name: str, address: str) -> x509.Certificate:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # this asks what is served, whatever it is
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), HANDSHAKE_S) as plain,
        context.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        return x509.load_der_x509_certificate(encrypted.getpeercert(True) or b"")
