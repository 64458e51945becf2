"""Sends rows as they are: sockets, and `h2` with its checks off, because a proper client would tidy them up."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from tests.attacks.bearers import token
from tests.attacks.row import Frames, Raw
from tests.attacks.world import World

CONNECT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """One answer, whole or as far as it came; status 0 for none."""

    status: int
    text: str


def filler(world: World, mark: str) -> Callable[[bytes], bytes]:
    """Fills placeholders in."""
    sources: dict[str, Callable[[str], str]] = {
        "key": lambda name: world.keys[name],
        "grant": world.grant,
        "handle": lambda name: world.handles[name],
        "attic-handle": lambda name: world.handles[f"attic {name}"],
        "proof": world.proof,
        "gate": world.gate_proof,
        "forged": world.forged,
        "jwt": token,
    }

    def filled(match: re.Match[bytes]) -> bytes:
        kind, _, name = match[1].decode().partition(" ")
        if kind == "mark":
            return mark.encode()
        if kind == "root":
            return str(world.folder / "root").encode()
        return match[0] if kind == "length" else sources[kind](name).encode()

    def fill(piece: bytes) -> bytes:
        piece = re.sub(rb"<<([a-z0-9 -]+)>>", filled, piece)
        body = piece.partition(b"\r\n\r\n")[2]
        return piece.replace(b"<<length>>", str(len(body)).encode())

    return fill


def address(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@contextlib.contextmanager
def connection(url: str) -> Iterator[socket.socket]:
    """A connection, closed at the end."""
    with socket.create_connection(address(url), CONNECT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def send_raw(url: str, sent: Raw, fill: Callable[[bytes], bytes], wait_s: float) -> list[Answer]:
    """Send bytes; the answers until the connection is closed, or nothing has come for a while."""
    with connection(url) as sock:
        with contextlib.suppress(ConnectionError):  # refused before all was read: its answer may be there
            for piece in sent.pieces:
                sock.sendall(fill(piece))
        return answers_in(received(sock, wait_s)) or [Answer(0, "")]


def received(sock: socket.socket, wait_s: float) -> bytes:
    """All that comes until the other side closes, or for so long."""
    came, until = b"", time.monotonic() + wait_s
    with contextlib.suppress(OSError):
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            chunk = sock.recv(1 << 16)
            if not chunk:
                break
            came += chunk
    return came


def answers_in(came: bytes) -> list[Answer]:
    """The answers in what came over a connection; information (1xx) is none."""
    found = []
    while came:
        start, _, rest = came.partition(b"\r\n\r\n")
        status = int(start.split(b" ", 2)[1]) if start.startswith(b"HTTP/1.") else 0
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", start)
        if status // 100 == 1:
            body, came = b"", rest
        elif length:
            size = int(length[1])
            body, came = rest[:size], rest[size:]
        elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", start):
            body, came = _dechunked(rest)
        else:
            body, came = rest, b""
        if status // 100 != 1:
            found.append(Answer(status, (start + b"\r\n\r\n" + body).decode("utf-8", "replace")))
    return found


def _dechunked(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.split(b";")[0] or b"0", 16)
        if size == 0:
            return body, rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body, b""


def lenient() -> H2Connection:
    """An HTTP/2 connection that lets everything out."""
    return H2Connection(
        H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
    )


def send_frames(url: str, sent: Frames, fill: Callable[[bytes], bytes], wait_s: float) -> list[Answer]:
    """Send one HTTP/2 request by prior knowledge, and read what becomes of it."""
    with connection(url) as sock:
        conn = lenient()
        conn.initiate_connection()
        fields = [(fill(name.encode()), fill(value.encode())) for name, value in sent.fields]
        body = fill(sent.body)
        conn.send_headers(1, fields, end_stream=not body)
        if body:
            conn.send_data(1, body, end_stream=not sent.trailers)
        if sent.trailers:
            conn.send_headers(1, [(fill(n.encode()), fill(v.encode())) for n, v in sent.trailers], end_stream=True)
        sock.sendall(conn.data_to_send())
        return [_h2_answer(sock, conn, wait_s)]


def _h2_answer(sock: socket.socket, conn: H2Connection, wait_s: float) -> Answer:
    status, text, until = 0, b"", time.monotonic() + wait_s
    # What comes after the other side has ended the connection in anger is of no interest to h2.
    with contextlib.suppress(OSError, ProtocolError):
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            chunk = sock.recv(1 << 16)
            if not chunk:
                break
            for event in conn.receive_data(chunk):
                if isinstance(event, ResponseReceived):
                    known = {_text(name): _text(value) for name, value in event.headers or ()}
                    status, text = int(known.get(":status", "0")), repr(known).encode()
                elif isinstance(event, DataReceived):
                    text += event.data or b""
                elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                    return Answer(status, text.decode("utf-8", "replace"))
            sock.sendall(conn.data_to_send())
    return Answer(status, text.decode("utf-8", "replace"))


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
