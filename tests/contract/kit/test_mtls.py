"""An instance with mutual TLS on a real Consul: who gets through, and what happens when certificates change."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from services.common.listen import bind, listening
from services.common.tls import LiveContext, current_peer
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until
from tests.support.identities import CONNECT, Papers, allow, change_ca, forbid, papers, stranger

pytestmark = [pytest.mark.local, pytest.mark.feature("E1")]

IN_FORCE_S = 2.0
"""A second at most on a machine with time; the call that shows it takes its own."""
RENEWED_S = 30.0 + 20.0
"""Consul's agent spreads the new leaves over 30 s when the CA changed (`caChangeJitterWindow`)."""
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulProcess]:
    """A Consul with a CA, of this module."""
    with ConsulProcess(tmp_path_factory.mktemp("consul"), connect=CONNECT) as consul:
        papers(consul, "tekup-gate")
        yield consul


@pytest.fixture(scope="module")
def guarded(ca: ConsulProcess, shared: Any) -> Any:
    """An instance that the gate may call; several tests use it and none changes it."""
    allow(ca, "mcp-guarded", "tekup-gate", "mcp-hub")
    return asyncio.run(shared.start("guarded", MCP_CONSUL_URL=ca.url, MCP_MTLS="on"))


def url(instance: Any, path: str = "/mcp") -> str:
    return f"https://127.0.0.1:{instance.where['port']}{path}"


def sent(instance: Any) -> dict[str, str]:
    """What the gate sends with a call; no proof, for its certificate is that."""
    given = instance.headers()
    del given["x-tekup-gate"]
    return {
        **given,
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": f"{instance.name}_echo",
        "accept": "application/json, text/event-stream",
    }


def body(instance: Any) -> dict[str, object]:
    return {**CALL, "params": {"name": f"{instance.name}_echo", "arguments": {"text": "hello"}, "_meta": META}}


def call(instance: Any, by: Papers, headers: dict[str, str] | None = None) -> httpx.Response:
    """One tool call on a connection of its own."""
    with by.client() as http:
        return http.post(url(instance), json=body(instance), headers=headers or sent(instance))


def is_cut_off(instance: Any, by: Papers) -> bool:
    """Whether a caller is not even answered."""
    try:
        call(instance, by)
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
        return True
    return False


def test_the_gate_is_answered_by_its_certificate_alone(ca: ConsulProcess, guarded: Any) -> None:
    answer = call(guarded, papers(ca, "tekup-gate"))
    assert answer.status_code == 200, answer.text
    assert "hello" in answer.text


def test_a_proof_of_development_is_harmless_beside_the_certificate(ca: ConsulProcess, guarded: Any) -> None:
    headers = {**sent(guarded), "x-tekup-gate": "0" * 64}
    assert call(guarded, papers(ca, "tekup-gate"), headers).status_code == 200


def test_traefiks_checks_go_the_same_way(ca: ConsulProcess, guarded: Any) -> None:
    with papers(ca, "tekup-gate").client() as http:
        assert http.get(url(guarded, "/ready")).json()["ready"] is True
        assert http.get(url(guarded, "/health")).json()["alive"] is True
    with papers(ca, "mcp-other").client() as http:
        assert http.get(url(guarded, "/ready")).status_code == 403


def test_the_admin_port_stays_plain_for_consul_and_prometheus(guarded: Any) -> None:
    assert httpx.get(guarded.admin("/ready"), trust_env=False).json()["ready"] is True


def test_plain_http_is_not_answered(guarded: Any) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(guarded.url, json=body(guarded), headers=guarded.headers() | sent(guarded), trust_env=False)


def test_a_caller_without_a_certificate_is_cut_off(ca: ConsulProcess, guarded: Any) -> None:
    assert is_cut_off(guarded, Papers("", "", papers(ca, "tekup-gate").roots, ""))


def test_the_gates_name_from_a_foreign_ca_is_cut_off(ca: ConsulProcess, guarded: Any) -> None:
    assert is_cut_off(guarded, stranger(papers(ca, "tekup-gate")))


async def test_what_is_cut_off_is_counted(ca: ConsulProcess, guarded: Any) -> None:
    before = await guarded.metric("tekup_tls_refused_total")
    assert await asyncio.to_thread(is_cut_off, guarded, stranger(papers(ca, "tekup-gate")))
    assert await guarded.metric("tekup_tls_refused_total") > before
    assert await guarded.metric('tekup_tls_refused_total{reason="CERTIFICATE_VERIFY_FAILED"}') >= 1


async def test_a_false_gate_is_told_nothing(ca: ConsulProcess) -> None:
    """The hub's side: what is at the gate's address has the name of another."""
    asked: list[str] = []

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    hub = context(papers(ca, "mcp-hub"), expects="tekup-gate")
    for name, answers in (("tekup-gate", True), ("mcp-guarded", False)):
        listener = bind("127.0.0.1", 0)
        async with listening(gate, listener, context(papers(ca, name))), httpx.AsyncClient(verify=hub) as http:
            if answers:
                assert current_peer() is None
                assert (await http.get(f"https://127.0.0.1:{listener.port}/it")).status_code == 200
            else:
                with pytest.raises(httpx.TransportError):
                    await http.get(f"https://127.0.0.1:{listener.port}/other")
        assert current_peer() is None, "whom we call is not who calls us"
    assert asked == ["/it"]


def context(own: Papers, expects: str = "") -> LiveContext:
    """One side of a connection: a client's that expects somebody, or a server's."""
    made = LiveContext(server_side=not expects, expects=expects)
    domain = own.uri.split("/")[2]
    made.renew(chain=own.chain, key=own.key, roots=own.roots, domains=frozenset({domain}))
    return made


@pytest.mark.feature("F9")
def test_http_1_1_is_spoken_whatever_is_offered(ca: ConsulProcess, guarded: Any) -> None:
    offering = papers(ca, "tekup-gate").context()
    offering.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", guarded.where["port"]), timeout=20) as plain,
        offering.wrap_socket(plain) as secure,
    ):
        assert (secure.selected_alpn_protocol(), secure.version()) == ("http/1.1", "TLSv1.3")


def test_tls_below_1_3_is_refused(ca: ConsulProcess, guarded: Any) -> None:
    context = papers(ca, "tekup-gate").context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=context, trust_env=False) as http, pytest.raises(httpx.TransportError):
        http.get(url(guarded, "/health"))


@pytest.mark.parametrize("name", ["mcp-other", "tekup-control-plane", "tekup-gate-2", "mcp-guard"])
def test_a_name_no_intention_allows_is_refused_and_told_so(ca: ConsulProcess, guarded: Any, name: str) -> None:
    answer = call(guarded, papers(ca, name), guarded.headers() | sent(guarded))
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith(f"{name} may not call mcp-guarded")


@pytest.mark.parametrize("name", ["mcp-hub", "mcp-guarded"])
def test_only_the_gate_is_believed_even_among_those_let_in(ca: ConsulProcess, guarded: Any, name: str) -> None:
    answer = call(guarded, papers(ca, name), guarded.headers() | sent(guarded))
    assert answer.status_code == 403
    assert f"its certificate is that of {name}" in answer.json()["error"]["message"]


async def test_an_intention_is_in_force_at_once_both_ways_on_standing_connections(
    ca: ConsulProcess, services: Any
) -> None:
    instance = await services.start("changing", MCP_CONSUL_URL=ca.url, MCP_MTLS="on")
    with papers(ca, "tekup-gate").client() as http:

        def status() -> int:
            return http.post(url(instance), json=body(instance), headers=sent(instance)).status_code

        def answers(wanted: int) -> bool:
            return status() == wanted

        assert answers(403)  # nobody by default
        for change, wanted in ((allow, 200), (forbid, 403), (allow, 200)):
            change(ca, "mcp-changing", *(("tekup-gate",) if change is allow else ()))
            began_s = time.monotonic()
            wait_until(partial(answers, wanted), f"{wanted}", 20)
            assert time.monotonic() - began_s < IN_FORCE_S


class Caller:
    """A gate that calls on and on, each tenth call on a new connection; every answer is counted."""

    def __init__(self, consul: ConsulProcess, instance: Any) -> None:
        self._consul, self._instance = consul, instance
        self.by = papers(consul, "tekup-gate")
        self.answers: list[str] = []
        self.enough = False

    async def run(self) -> None:
        while not self.enough:
            async with httpx.AsyncClient(verify=self.by.context(), timeout=20, trust_env=False) as http:
                for _ in range(10):
                    try:
                        reply = await http.post(
                            url(self._instance), json=body(self._instance), headers=sent(self._instance)
                        )
                        self.answers.append(str(reply.status_code))
                    except httpx.HTTPError as error:
                        self.answers.append(repr(error))

    async def more(self, calls: int) -> None:
        """Wait for so many further calls."""
        until = len(self.answers) + calls
        async with asyncio.timeout(30):
            while len(self.answers) < until:
                await asyncio.sleep(0.02)

    @property
    def lost(self) -> list[str]:
        return [answer for answer in self.answers if answer != "200"]


def shown(instance: Any) -> str:
    """The certificate a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", instance.where["port"]))


async def test_leaf_and_ca_change_under_load_and_no_call_is_lost(tmp_path: Path, services: Any) -> None:
    with ConsulProcess(tmp_path, connect=CONNECT) as consul:
        allow(consul, "mcp-demo", "tekup-gate")
        instance = await services.start("demo", MCP_CONSUL_URL=consul.url, MCP_MTLS="on")
        caller = Caller(consul, instance)
        work = [asyncio.create_task(caller.run()) for _ in range(4)]
        await caller.more(200)

        # Consul's agent keeps leaves in memory: after a restart the next one is another of the same CA.
        consul.kill()
        await caller.more(200)
        await asyncio.to_thread(consul.start)
        await instance.event("identity.leaf", 2)
        await caller.more(200)

        await asyncio.to_thread(change_ca, consul)
        await instance.event("identity.roots", 2)
        await instance.event("identity.leaf", 3, within_s=RENEWED_S)
        await caller.more(200)  # a gate that still has the old leaf
        caller.by = await asyncio.to_thread(papers, consul, "tekup-gate")
        await caller.more(200)
        caller.enough = True  # and no cancelling: a connection cut off while it is being made is closed by nobody
        await asyncio.gather(*work)
        assert caller.lost == []
        assert len(caller.answers) >= 1000


async def test_with_consul_away_calls_go_on_and_the_metric_counts_down(tmp_path: Path, services: Any) -> None:
    with ConsulProcess(tmp_path, connect=CONNECT) as consul:
        allow(consul, "mcp-demo", "tekup-gate")
        instance = await services.start("demo", MCP_CONSUL_URL=consul.url, MCP_MTLS="on")
        by, another = papers(consul, "tekup-gate"), papers(consul, "mcp-other")
        before_s = await instance.metric("tekup_leaf_expires_seconds")
        consul.kill()
        await instance.event("identity.unreachable", 3)
        assert call(instance, by).status_code == 200
        assert 0 < await instance.metric("tekup_leaf_expires_seconds") < before_s <= 72 * 3600
        assert call(instance, another).status_code == 403


async def test_a_consul_that_lost_its_data_takes_no_caller_away(tmp_path: Path, services: Any) -> None:
    with ConsulProcess(tmp_path, connect=CONNECT) as consul:
        allow(consul, "mcp-demo", "tekup-gate", "mcp-hub")
        for number in range(30):  # so that the index of the new one is below that of the old
            allow(consul, f"mcp-other-{number}", "tekup-gate")
        allow(consul, "mcp-demo", "tekup-gate")
        instance = await services.start("demo", MCP_CONSUL_URL=consul.url, MCP_MTLS="on")
        before = papers(consul, "tekup-gate")
        consul.kill()
        consul.lose_data()
        consul.start()
        after = await asyncio.to_thread(papers, consul, "tekup-gate")
        await instance.event("identity.intentions_lost")
        await instance.event("identity.roots", 2)
        await instance.event("identity.leaf", 2)
        assert call(instance, Papers(after.chain, after.key, before.roots + after.roots, "")).status_code == 200
        assert call(instance, Papers(before.chain, before.key, before.roots + after.roots, "")).status_code == 200


async def test_without_consul_mutual_tls_does_not_start(services: Any) -> None:
    instance = services.spawn("demo", MCP_MTLS="on")
    assert await instance.ended(20) == 78
    assert "MCP_MTLS: is on, which takes certificates from Consul; set MCP_CONSUL_URL" in instance.log.read_text()
