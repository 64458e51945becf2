"""Operators reach API and console through a real Traefik by TLS, on an entrypoint of their own and by no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from compose.local.authority import CA, issue, make_authority
from compose.local.certificates import Shelf
from compose.local.gate_folder import rendered
from compose.local.operators_entry import ENTRYPOINT
from control_plane.api.forward import REPLICA
from tests.support.console_world import TOKEN, World, console_world, served
from tests.support.gate import SECRETS, Gate, close, lay_out
from tests.support.ports import free_ports
from tests.support.programs import ROOT
from tests.support.wait import eventually
from tests.support.wire import trusting

pytestmark = [pytest.mark.local, pytest.mark.feature("C9"), pytest.mark.feature("A8"), pytest.mark.timeout(180)]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NO_ENTRYPOINT = "# no entrypoint of their own for operators here"


@dataclass
class Place:
    """A gate before a control plane, and a client that trusts it."""

    gate: Gate
    world: World
    url: str
    http: httpx.AsyncClient


def with_operators(gate: Gate, port: int, control_plane: str) -> None:
    """Lay out what the environment does where the gate has a certificate."""
    config = gate.folder / "traefik.yml"
    text = config.read_text()
    assert NO_ENTRYPOINT in text
    config.write_text(text.replace(NO_ENTRYPOINT, ENTRYPOINT.format(address=f"127.0.0.1:{port}")))
    values = {"OPERATORS_SERVERS": json.dumps([{"url": control_plane}]), "HSTS_S": "0"}
    gate.write("dynamic/operators.yml", rendered(ROOT / "traefik" / "operators.yml.tmpl", values))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (port,) = free_ports(1)
    make_authority(tmp_path, datetime.now(UTC))
    gate = lay_out(tmp_path / "gate", tls="local")
    trust = trusting(tmp_path / CA)
    gate.http = httpx.Client(timeout=20, trust_env=False, verify=trust)
    pair = issue(tmp_path, datetime.now(UTC))
    Shelf(gate.folder).put(pair, pair.leaf())
    async with console_world() as world, served(world) as control_plane:
        with_operators(gate, port, control_plane)
        gate.write("tables/secrets.json", json.dumps(SECRETS))
        try:
            await asyncio.to_thread(gate.start)
            url = f"https://127.0.0.1:{port}"
            async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=20) as http:

                async def leads() -> bool:
                    return (await http.get(f"{url}/health")).is_success

                await eventually(leads, "a replica behind the entrypoint", 30)
                yield Place(gate, world, url, http)
        finally:
            await asyncio.to_thread(close, gate)


async def test_operators_come_in_by_tls_alone_and_the_control_plane_checks_their_tokens(place: Place) -> None:
    assert (await place.http.get(f"{place.url}/v1/status")).status_code == 401
    status = await place.http.get(f"{place.url}/v1/status", headers=BEARER)
    assert (status.status_code, status.headers[REPLICA]) == (200, "replica-1")
    note = {"what": "by TLS", "reason": "x"}
    forged = {**BEARER, "X-Tekup-Forwarded": "somebody", "Idempotency-Key": '"k1"'}
    first = await place.http.post(f"{place.url}/v1/state/notes", headers=forged, json=note)
    again = await place.http.post(f"{place.url}/v1/state/notes", headers=forged, json=note)
    assert (first.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await place.http.get(f"{place.url}/v1/clients/a%2Fb", headers=BEARER)).status_code == 404
    with pytest.raises(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as stranger:
            await stranger.get(f"{place.url}/v1/status")
    async with httpx.AsyncClient(trust_env=False) as plain:
        clear = await plain.get(place.url.replace("https:", "http:") + "/v1/status", headers=BEARER)
    assert (clear.status_code, REPLICA in clear.headers) == (404, False)


async def test_the_console_knows_that_it_is_reached_by_tls_and_stays_live(place: Place) -> None:
    assert (await place.http.get(place.url)).headers["location"] == f"{place.url}/console/"
    page = await place.http.get(f"{place.url}/console/login")
    assert (page.status_code, "came without TLS" in page.text) == (200, False)
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    login = {"token": TOKEN}
    entered = await place.http.post(f"{place.url}/console/login", data=login, headers={"Origin": place.url})
    assert (entered.status_code, "Secure" in entered.headers["set-cookie"]) == (303, True)
    assert "Log out" in (await place.http.get(f"{place.url}/console/")).text
    async with place.http.stream("GET", f"{place.url}/v1/events", headers=BEARER) as told:
        lines = told.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        await place.world.api.post("/v1/clients", json={"id": "ci", "reason": "x"})
        async with asyncio.timeout(20):
            while "event: revision" not in await anext(lines):
                pass


async def test_the_public_entrypoint_and_the_others_lead_nowhere_near(place: Place) -> None:
    for path in ("/v1/status", "/v1/events", "/v1/openapi.json", "/console", "/console/login", "/health", "/metrics"):
        for url in (place.gate.public, place.gate.internal, place.gate.private):
            answer = await place.http.get(f"{url}{path}", headers=BEARER)
            assert REPLICA not in answer.headers, (url, path)
            assert answer.status_code >= 400 or (url, path) == (place.gate.private, "/metrics"), (url, path)
    assert (await place.http.get(f"{place.url}/metrics", headers=BEARER)).status_code == 404
    assert (await place.http.post(f"{place.url}/search/mcp", json={})).status_code == 404
