"""Whom a certificate names, and that no connection outlives the certificate it began with."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from services.common.admission import Admission
from services.common.authority import Authority, Intention, lets_in
from services.common.identity import Identity
from services.common.metrics import Metrics
from services.common.tls import PEER, Peer, peer_of

ENDS = "Nov 29 00:17:07 2026 GMT"
OURS = "spiffe://d.consul/ns/default/dc/dc1/svc/"


def certificate(*names: tuple[str, str]) -> dict[str, Any]:
    return {"subjectAltName": names, "notAfter": ENDS}


def test_a_certificate_names_its_holder_its_domain_and_its_end() -> None:
    found = peer_of(certificate(("URI", f"{OURS}mcp-hub")))
    assert found
    assert (found.name, found.domain) == ("mcp-hub", "d.consul")
    assert time.gmtime(found.ends)[:3] == (2026, 11, 29)


@pytest.mark.parametrize(
    "made",
    [
        None,
        {},
        certificate(),
        certificate(("DNS", "tekup-gate")),
        certificate(("URI", f"{OURS}mcp-hub"), ("URI", f"{OURS}tekup-gate")),
        certificate(("URI", OURS.replace("spiffe", "https") + "tekup-gate")),
        certificate(("URI", "spiffe://d.consul/agent/client/dc/dc1/id/tekup-gate")),
        certificate(("URI", "spiffe://d.consul/ns/other/dc/dc1/svc/tekup-gate")),
        certificate(("URI", f"{OURS}mcp-x/svc/tekup-gate")),
    ],
)
def test_a_certificate_that_names_nobody_or_several_is_nobodys(made: dict[str, Any] | None) -> None:
    assert peer_of(made) is None


@pytest.fixture
async def identity() -> Identity:
    metrics = Metrics(service="demo", version="1", instance="abcdef")
    return Identity(Authority("http://127.0.0.1:1"), "mcp-demo", metrics)


@pytest.mark.parametrize(
    ("intentions", "admitted"),
    [
        ([], False),
        ([("tekup-gate", "allow")], True),
        ([("tekup-gate", "deny"), ("*", "allow")], False),
        ([("mcp-other", "allow")], False),
        ([("mcp-other", "deny"), ("*", "allow")], True),
        ([("tekup-gate", ""), ("*", "allow")], False),
    ],
)
def test_the_first_intention_that_fits_decides_and_none_is_no(
    intentions: list[tuple[str, str]], *, admitted: bool
) -> None:
    found = [Intention.model_validate({"SourceName": source, "Action": action}) for source, action in intentions]
    assert lets_in(found, "tekup-gate") is admitted


async def answered(identity: Identity, peer: Peer | None) -> Message:
    """The start of the answer that a caller gets."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    token = PEER.set(peer)
    try:
        metrics = Metrics(service="demo", version="1", instance="abcdef")
        await Admission(app, identity, metrics)({"type": "http", "method": "GET"}, receive, send)
    finally:
        PEER.reset(token)
    return sent[0]


async def test_a_connection_ends_with_the_certificate_it_began_with(identity: Identity) -> None:
    now = time.time()
    fresh = await answered(identity, Peer("mcp-demo", "d.consul", now + 60))
    overdue = await answered(identity, Peer("mcp-demo", "d.consul", now - 60))
    assert (fresh["status"], overdue["status"]) == (200, 200)
    assert (b"connection", b"close") not in fresh["headers"]
    assert (b"connection", b"close") in overdue["headers"]


async def test_who_came_without_a_certificate_is_refused(identity: Identity) -> None:
    assert (await answered(identity, None))["status"] == 403
