"""What the gate sends again, how often, and for how long."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.gate import wait_until

if TYPE_CHECKING:
    from tests.support.gate import Gate, Maker

pytestmark = [pytest.mark.local, pytest.mark.feature("A12", "A14")]


def lead_to(gate: Gate, port: int) -> None:
    """Make a port the only server of beta, without checks: every attempt goes there."""
    routes = json.loads((gate.folder / "dynamic/routes.yml").read_text())
    server = {"url": f"http://127.0.0.1:{port}"}
    routes["http"]["services"]["beta_1-0-0"] = {"loadBalancer": {"serversTransport": "instances", "servers": [server]}}
    gate.write("dynamic/routes.yml", json.dumps(routes))

    def led() -> bool:
        found = gate.http.get(f"{gate.private}/api/http/services/beta_1-0-0@file").json()
        return bool(found.get("loadBalancer", {}).get("servers") == [server])

    wait_until(led, f"beta to be at port {port}")


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
