"""Attacks of more than one request.

Floods are bounded and judged by what others meet meanwhile; replays have a change of keys or rights in between.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psutil
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from tests.attacks.row import body_of, call, frames, head
from tests.attacks.wire import Answer, answers_in, connection, filler, lenient, received, send_frames, send_raw
from tests.attacks.world import World
from tests.support.gate import wait_until

STREAMS: Final = 2_000
MOST_GROWN_MB: Final = 200.0
ANSWERED_WITHIN_S: Final = 5.0
Fill = Callable[[bytes], bytes]


def rapid_reset(world: World, url: str, fill: Fill) -> list[Answer]:
    """Streams without a key, each taken back at once."""
    wanted = frames(client="")
    fields = [(name.encode(), fill(value.encode())) for name, value in wanted.fields]
    with connection(url) as sock, contextlib.suppress(OSError):
        conn = lenient()
        conn.initiate_connection()
        for number in range(STREAMS):
            stream = 2 * number + 1
            conn.send_headers(stream, fields)
            conn.send_data(stream, fill(wanted.body), end_stream=False) if number < 100 else None
            conn.reset_stream(stream, ErrorCodes.CANCEL)
            if number % 100 == 0:
                sock.sendall(conn.data_to_send())
        sock.sendall(conn.data_to_send())
        world.alive()
    return [Answer(0, "")]


def continuation_flood(world: World, url: str, fill: Fill) -> list[Answer]:
    """A header block that never ends; the gate has to end it long before 64 MiB."""
    sent = 0
    with connection(url) as sock, contextlib.suppress(OSError):
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        sock.sendall(HeadersFrame(1, b"\x82\x86\x84").serialize())
        block = b"\x00\x01a\x7f\x81\x7f" + b"x" * 256  # a literal field, 256 bytes
        frame = ContinuationFrame(1, block * 60).serialize()
        while sent < 64 << 20:
            sock.sendall(frame)
            sent += len(frame)
    assert sent < 64 << 20, "the gate reads a header block without end"
    world.alive()
    return [Answer(0, "")]


def ping_flood(world: World, url: str, fill: Fill) -> list[Answer]:
    """Pings and settings whose answers nobody reads."""
    with connection(url) as sock, contextlib.suppress(OSError):
        sock.settimeout(1)
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        flood = b"".join(frame.serialize() for frame in _noise())
        for _ in range(100):
            sock.sendall(flood)
        world.alive()
    return [Answer(0, "")]


def _noise() -> list[Frame]:
    return [*(PingFrame(0, b"12345678") for _ in range(200)), *(SettingsFrame(0) for _ in range(50))]


def half_requests(world: World, url: str, fill: Fill) -> list[Answer]:
    """Three hundred requests whose headers never end, while others are served."""
    start = fill(head("POST /vault/mcp HTTP/1.1", [("Host", "gate.test")]))[:-2]
    return _unended(world, url, start, 300)


def half_bodies(world: World, url: str, fill: Fill) -> list[Answer]:
    """A hundred bodies of a good key that never end, while others are served."""
    body = body_of("tools/call", {"name": "vault_take", "arguments": {"mark": "<<mark>>"}})
    fields = [
        ("Host", "gate.test"),
        ("Authorization", "Bearer <<key dev>>"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "vault_take"),
        ("Content-Type", "application/json"),
        ("Content-Length", "100000"),
    ]
    start = fill(head("POST /vault/mcp HTTP/1.1", fields) + body)
    return _unended(world, url, start, 100)


def _unended(world: World, url: str, start: bytes, count: int) -> list[Answer]:
    """So many connections that send this and no more; meanwhile others are served."""
    with contextlib.ExitStack() as open_ones:
        for _ in range(count):
            open_ones.enter_context(connection(url)).sendall(start)
        world.alive()
    return [Answer(0, "")]


def drips(world: World, url: str, fill: Fill) -> list[Answer]:
    """A request of a good key whose bytes come one by one, taken back before the last."""
    body = body_of("tools/call", {"name": "vault_take", "arguments": {"mark": "<<mark>>"}})
    whole = fill(head("POST /vault/mcp HTTP/1.1", [("Host", "gate.test"), ("Content-Length", "<<length>>")]) + body)
    with connection(url) as sock, contextlib.suppress(OSError):
        for at in range(len(whole) - 1):
            sock.sendall(whole[at : at + 1])
        sock.shutdown(socket.SHUT_RDWR)
    world.alive()
    return [Answer(0, "")]


def revoked(world: World, url: str, fill: Fill) -> list[Answer]:
    """A request that was good, again after its key was revoked."""
    return _twice(world, url, fill, lambda: world.write_clients(rich={"revoked": int(time.time())}))


def right_taken(world: World, url: str, fill: Fill) -> list[Answer]:
    """A request that was good, again after the right to it was taken."""
    return _twice(world, url, fill, lambda: world.write_clients({"rich": ["vault_peek"]}))


def expired(world: World, url: str, fill: Fill) -> list[Answer]:
    """A request that was good, again in the second in which its key has expired."""
    at = int(time.time()) + 2
    world.write_clients(rich={"expires": at})
    return _twice(world, url, fill, lambda: time.sleep(max(0.0, at - time.time())))


def _twice(world: World, url: str, fill: Fill, between: Callable[[], None]) -> list[Answer]:
    wanted, first = call(client="rich"), secrets.token_hex(8)
    try:
        before = send_raw(url, wanted, filler(world, first), 10)
        assert (before[0].status, len(world.runs(first))) == (200, 1), before
        between()
        return send_raw(url, wanted, fill, 10)
    finally:
        world.write_clients()


def revoked_on_the_connection(world: World, url: str, fill: Fill) -> list[Answer]:
    """The same, on the connection on which the request was good."""
    first = secrets.token_hex(8)
    wanted = call(client="rich", put={"Connection": "keep-alive"})
    try:
        with connection(url) as sock:
            sock.sendall(filler(world, first)(wanted.pieces[0]))
            sock.settimeout(10)
            assert b" 200 OK" in sock.recv(1 << 16)
            assert len(world.runs(first)) == 1
            world.write_clients(rich={"revoked": int(time.time())})
            sock.sendall(fill(call(client="rich").pieces[0]))
            return answers_in(received(sock, 10))
    finally:
        world.write_clients()


def _beside(world: World, attack: Callable[[], None]) -> list[Answer]:
    """An attack after which the instances of a version still get its calls, instead of whoever stands in for them."""

    def served() -> bool:
        before = world.carried("vault.last")
        world.alive()
        return world.carried("vault.last") == before

    wait_until(served, "vault to be served by its own instances", 60)
    before = world.carried("vault.last")
    with ThreadPoolExecutor(10) as senders:
        for sent in [senders.submit(attack) for _ in range(40)]:
            sent.result()
    world.alive()
    elsewhere = world.carried("vault.last") - before
    assert elsewhere == 0, f"{elsewhere:g} calls went past the version's instances: broken requests have taken them out"
    return [Answer(0, "")]


def refused_calls(world: World, url: str, fill: Fill) -> list[Answer]:
    """Calls that are refused, by the gate and by the tool itself."""

    def attack() -> None:
        send_raw(url, call(), fill, 5)
        send_raw(url, call("vault_peek", {"more": 1}), fill, 5)

    return _beside(world, attack)


def broken_chunks(world: World, url: str, fill: Fill) -> list[Answer]:
    """Permitted calls whose bodies break in the middle."""
    whole = call("vault_peek", put={"Transfer-Encoding": "chunked"}, drop=("Content-Length",), body=b"+5\r\nhello\r\n")

    def attack() -> None:
        send_raw(url, whole, fill, 5)

    return _beside(world, attack)


def short_bodies(world: World, url: str, fill: Fill) -> list[Answer]:
    """Permitted calls over HTTP/2 whose bodies are shorter than they say."""
    short = frames("vault_peek", add=[("content-length", "30000")])

    def attack() -> None:
        send_frames(url, short, fill, 5)

    return _beside(world, attack)


def cut_bodies(world: World, url: str, fill: Fill) -> list[Answer]:
    """Permitted calls whose sender leaves before the end of the body."""
    cut = call("vault_peek", put={"Content-Length": "5000"})

    def attack() -> None:
        with connection(url) as sock:
            sock.sendall(fill(cut.pieces[0]))

    return _beside(world, attack)


FLOODS: Final[Mapping[str, Callable[[World, str, Fill], list[Answer]]]] = {
    "rapid-reset": rapid_reset,
    "continuation": continuation_flood,
    "pings": ping_flood,
    "half-requests": half_requests,
    "half-bodies": half_bodies,
    "drips": drips,
    "revoked": revoked,
    "revoked-on-the-connection": revoked_on_the_connection,
    "right-taken": right_taken,
    "expired": expired,
    "refused-calls": refused_calls,
    "broken-chunks": broken_chunks,
    "short-bodies": short_bodies,
    "cut-bodies": cut_bodies,
}


def run_flood(world: World, name: str, url: str, fill: Fill) -> list[Answer]:
    """Run a flood: the gate lives, answers others within seconds, and does not grow without bound."""
    assert world.gate.process
    gate = psutil.Process(world.gate.process.pid)
    before = gate.memory_info().rss
    answers = FLOODS[name](world, url, fill)
    started = time.monotonic()
    world.alive()
    assert time.monotonic() - started < ANSWERED_WITHIN_S
    grown_mb = (gate.memory_info().rss - before) / (1 << 20)
    assert grown_mb < MOST_GROWN_MB, f"the gate grew by {grown_mb:.0f} MB"
    return answers
