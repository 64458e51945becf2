"""What the gate sends again, how often, and for how long."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.gate import wait_until
from tests.support.wire import self_signed

if TYPE_CHECKING:
    from tests.support.gate import Gate, Maker

pytestmark = [pytest.mark.local, pytest.mark.feature("A12", "A14")]


def lead_to(gate: Gate, *ports: int, tls: bool = False) -> None:
    """Make ports the only servers of beta: every attempt goes there. With TLS they are checked, as the agent has it."""
    routes = json.loads((gate.folder / "dynamic/routes.yml").read_text())
    servers = [{"url": f"{'https' if tls else 'http'}://127.0.0.1:{port}"} for port in ports]
    balancer: dict[str, object] = {"serversTransport": "instances", "servers": servers}
    if tls:
        routes["http"]["serversTransports"] = {"anybody": {"insecureSkipVerify": True}}
        check = {"path": "/ready", "interval": "1s", "unhealthyInterval": "1s", "timeout": "4s"}
        balancer |= {"serversTransport": "anybody", "healthCheck": check}
    routes["http"]["services"]["beta_1-0-0"] = {"loadBalancer": balancer}
    gate.write("dynamic/routes.yml", json.dumps(routes))

    def led() -> bool:
        found = gate.http.get(f"{gate.private}/api/http/services/beta_1-0-0@file").json()
        return bool(found.get("loadBalancer", {}).get("servers") == servers)

    wait_until(led, f"beta to be at ports {ports}")


@pytest.fixture
def hole() -> Iterator[int]:
    """A port where connecting neither succeeds nor fails, as on a machine that is gone."""
    with contextlib.ExitStack() as life:
        listener = life.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # who never accepts has room for one or two
            filler = life.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_machine_that_is_gone_is_tried_a_few_times_and_then_said_to_be(gate: Gate, make: Maker, hole: int) -> None:
    lead_to(gate, hole)
    assert gate.process
    traefik = psutil.Process(gate.process.pid)
    attempts: set[int] = set()

    def look() -> bool:
        for one in traefik.net_connections("tcp"):
            if one.raddr and one.raddr.port == hole:
                attempts.add(one.laddr.port)
        return calling.done()

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(gate.call, "/beta/mcp", make.modern("tools/call", "beta_x"))
        wait_until(look, "the call to be answered", 30)
        answer = calling.result()
    assert (answer.status, answer.code) == (504, 504)
    # Without a budget there are eight.
    assert 1 <= len(attempts) <= 7, attempts


def test_a_call_longer_than_the_budget_for_attempts_is_not_cut(gate: Gate, make: Maker) -> None:
    answer = gate.call("/beta/mcp", make.modern("tools/call", "beta_x") | {"X-Test-Delay": "8"})
    assert answer.status == 200


class HangsUp:
    """Takes every connection and closes it as soon as something of a request has come."""

    def __init__(self) -> None:
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.requests += bool(connection.recv(1))

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def test_what_was_sent_is_never_sent_again(gate: Gate, make: Maker) -> None:
    with contextlib.closing(HangsUp()) as server:
        lead_to(gate, server.port)
        answers = [gate.call("/beta/mcp", make.modern("tools/call", "beta_x")) for _ in range(20)]
        assert {(answer.status, answer.code) for answer in answers} == {(502, 502)}
        assert all("may have run" in str(answer.error["message"]) for answer in answers)
        assert server.requests == len(answers)


@pytest.fixture
def standing_still() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port where connecting succeeds and nothing follows, as at a process that is frozen; and who has connected."""
    met: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                met.append(listener.accept()[0])

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], met
    listener.close()
    for one in met:
        one.close()


class Well(BaseHTTPRequestHandler):
    """Answers."""

    def do_GET(self) -> None:
        """With nothing much."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def greeting(tmp_path: Path) -> Iterator[int]:
    """The port of a server that answers over TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Well)
    made, papers = self_signed("localhost"), tmp_path / "papers.pem"
    papers.write_text(made.chain + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_call_whose_instance_stands_still_before_it_greets_goes_to_another(
    gate: Gate, make: Maker, standing_still: tuple[int, list[socket.socket]], greeting: int
) -> None:
    silent, met = standing_still
    lead_to(gate, silent, greeting, tls=True)
    with ThreadPoolExecutor(2) as pool:  # in turn: one of two calls goes to the silent one first
        calling = [pool.submit(gate.call, "/beta/mcp", make.modern("tools/call", "beta_x")) for _ in range(2)]
        answers = [call.result() for call in calling]
    assert met
    assert [answer.status for answer in answers] == [200, 200]
