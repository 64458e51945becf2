"""The judge of foreign bearers with a real authorization server: discovery, signing keys, rotation, outage."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.oauth.answers import Refusal
from control_plane.oauth.guard import Guard, Trusted
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.keys import KeyRing, Pace, issuers_client
from control_plane.oauth.scopes import Resources, Scopes
from control_plane.oauth.tables import Tables
from tests.support.authorization import AuthorizationServer
from tests.support.gate import MAC
from tests.support.mint import BASE, HUB, Mint

pytestmark = [pytest.mark.feature("A11"), pytest.mark.local]

OLD, NEW, EC, ED = Mint(), Mint(number=1, kid="k2"), Mint("ES256", "EC", "e1"), Mint("EdDSA", "OKP", "d1")
PACE = Pace(again_s=0.01, stale_s=3600, timeout_s=10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(tmp_path, ["mcp:ledger"]) as server:
        yield server


@dataclass
class Judge:
    """A guard that trusts one server."""

    guard: Guard
    keys: KeyRing

    async def outcome(self, token: str) -> str:
        """`granted`, or why not."""
        decision = await self.guard.decide(token, "")
        return decision.reason if isinstance(decision, Refusal) else "granted"


def judge(folder: Path, server: AuthorizationServer, http: httpx.AsyncClient) -> Judge:
    tables = folder / "tables"
    tables.mkdir()
    client = {"allow": ["*"], "oauth": [f"{server.issuer}#machine"]}
    (tables / "clients.json").write_text(json.dumps({"clients": {"machine": client}}))
    (tables / "services.json").write_text(json.dumps({"services": {}}))
    (tables / "secrets.json").write_text(json.dumps({"mac": [MAC]}))
    issuer = Issuer(issuer=server.issuer)
    keys = KeyRing(issuer, http, PACE, time.monotonic)
    trusted = {server.issuer: Trusted(issuer, keys)}
    guard = Guard(trusted, Tables(folder), Resources(BASE), Scopes("mcp:{service}"), now=time.time, cache_s=0)
    return Judge(guard, keys)


@pytest.fixture
async def judged(tmp_path: Path, server: AuthorizationServer) -> AsyncIterator[Judge]:
    async with issuers_client() as http:
        yield judge(tmp_path, server, http)


@pytest.mark.parametrize("mint", [OLD, EC, ED], ids=lambda mint: mint.alg)
async def test_its_tokens_are_believed_whatever_they_are_signed_with(
    server: AuthorizationServer, judged: Judge, mint: Mint
) -> None:
    server.kill()
    server.start(mint, NEW)  # it insists on a key for ID tokens
    assert await judged.outcome(server.machine_token(HUB)) == "granted"


async def test_its_tokens_for_others_are_not(server: AuthorizationServer, judged: Judge) -> None:
    assert await judged.outcome(server.machine_token("https://elsewhere.example/mcp")) == "audience"


async def test_keys_rotate_while_tokens_of_both_are_about(server: AuthorizationServer, judged: Judge) -> None:
    old = server.machine_token(HUB)
    assert await judged.outcome(old) == "granted"
    server.kill()
    server.start(NEW, OLD)
    new = server.machine_token(HUB)
    assert [await judged.outcome(token) for token in (new, old)] == ["granted", "granted"]
    server.kill()
    server.start(NEW)
    assert await judged.outcome(Mint(kid="k9").token(iss=server.issuer)) == "signature"  # has the keys fetched anew
    assert [await judged.outcome(token) for token in (new, old)] == ["granted", "signature"]


async def test_its_outage_is_not_felt_by_those_who_have_a_token(server: AuthorizationServer, judged: Judge) -> None:
    first, second = server.machine_token(HUB), server.machine_token(HUB)
    assert await judged.outcome(first) == "granted"
    server.kill()
    assert await judged.outcome(second) == "granted"
    assert await judged.outcome(NEW.token(iss=server.issuer)) == "no_keys"
    server.start(NEW)
    assert await judged.outcome(server.machine_token(HUB)) == "granted"


async def test_without_it_nobody_new_is_let_in_and_nobody_is_told_to_sign_in_again(
    server: AuthorizationServer, judged: Judge
) -> None:
    token = server.machine_token(HUB)
    server.kill()
    decision = await judged.guard.decide(token, "")
    assert isinstance(decision, Refusal)
    assert (decision.status, decision.error) == (503, "")
