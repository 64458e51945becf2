"""Callers that no HTTP library would be: raw TLS, slow, broken, or in a hurry to reset."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event

from compose.local.certificates import Pair

WAIT_S = 20.0


def self_signed(
    *names: str,
    life: timedelta = timedelta(days=1),
    age: timedelta = timedelta(minutes=10),
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    now: datetime | None = None,
) -> Pair:
    """A certificate for host names, made `age` before now; of its own key, or of an issuer who asks nothing."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begin = (now or datetime.now(UTC)) - age
    builder = x509.CertificateBuilder().subject_name(name).public_key(key.public_key())
    builder = builder.issuer_name(issuer[0].subject if issuer else name)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(begin + life)
    if names:
        hosts = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(hosts, critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), pem)


def trusting(ca: Path, *protocols: str) -> ssl.SSLContext:
    """A client's context that trusts one authority and offers these protocols."""
    context = ssl.create_default_context(cafile=ca)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def connect(url: str) -> socket.socket:
    """A plain connection to where a URL leads."""
    there = urlsplit(url)
    return socket.create_connection((str(there.hostname), int(there.port or 0)), WAIT_S)


def handshake(url: str, context: ssl.SSLContext, name: str | None = "127.0.0.1") -> ssl.SSLSocket:
    """An encrypted connection.

    Raises:
        ssl.SSLError: They could not agree.
    """
    plain = connect(url)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def served(url: str, name: str | None = "127.0.0.1") -> x509.Certificate:
    """The certificate that is served, whatever it is worth."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with handshake(url, context, name) as connection:
        return x509.load_der_x509_certificate(connection.getpeercert(True) or b"")


def drip(connection: socket.socket, head: bytes, piece: bytes, every_s: float = 0.2) -> tuple[float, bytes]:
    """Send a head, then a piece now and then, until the other side has had enough.

    Returns:
        How many seconds that took, and what it said.
    """
    began, said = time.monotonic(), b""
    connection.settimeout(every_s)
    with suppress(ConnectionError, ssl.SSLEOFError):
        if head:
            connection.sendall(head)
        while time.monotonic() - began < WAIT_S:
            try:
                received = connection.recv(4096)
                if not received:
                    break
                said += received
            except TimeoutError:
                if piece:
                    connection.sendall(piece)
    return time.monotonic() - began, said


class Streams:
    """One HTTP/2 connection, stream by stream."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._socket = handshake(url, context)
        self._socket.settimeout(WAIT_S)
        self.wire = H2Connection(H2Configuration(client_side=True))
        self.wire.initiate_connection()
        self.send()
        self.events: list[Event] = []

    def send(self) -> None:
        """Write what is due."""
        self._socket.sendall(self.wire.data_to_send())

    def open(self, headers: dict[str, str], end: bool = False) -> int:
        """Begin a call; returns the stream."""
        stream = self.wire.get_next_available_stream_id()
        first = {":method": "POST", ":scheme": "https", ":authority": "gate", ":path": "/mcp"}
        pairs = [*first.items(), *((name.lower(), value) for name, value in headers.items())]
        self.wire.send_headers(stream, pairs, end_stream=end)
        return stream

    def receive(self) -> bool:
        """Read once; False when the other side has closed."""
        received = self._socket.recv(65536)
        self.events += self.wire.receive_data(received) if received else []
        return bool(received) and not any(isinstance(event, ConnectionTerminated) for event in self.events)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
