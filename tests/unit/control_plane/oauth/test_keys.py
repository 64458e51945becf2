"""An issuer's keys: fetched when needed, not more often, and kept through an outage."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import httpx
import pytest

from control_plane.errors import Unavailable
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.keys import KeyRing, Pace
from tests.support.mint import ISSUER, Mint, Published

pytestmark = pytest.mark.feature("A11")

JWKS = f"{ISSUER}/keys"
METADATA = f"{ISSUER}/.well-known/oauth-authorization-server"
OPENID = f"{ISSUER}/.well-known/openid-configuration"
ONE, TWO = Mint(), Mint(number=1, kid="k2")


@dataclass
class World:
    """An issuer that answers what it is told to, and a clock that stands."""

    pages: dict[str, object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    now: float = 1000.0
    delay_s: float = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.delay_s)
        url = str(request.url)
        self.asked.append(url)
        page = self.pages.get(url, 404)
        if isinstance(page, Exception):
            raise page
        if isinstance(page, bytes):
            return httpx.Response(200, content=page)
        return httpx.Response(page) if isinstance(page, int) else httpx.Response(200, json=page)

    def ring(self, jwks_url: str = JWKS, pace: Pace = Pace()) -> KeyRing:  # noqa: B008 -- frozen
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return KeyRing(Issuer(issuer=ISSUER, jwks_url=jwks_url), http, pace, lambda: self.now)


async def test_keys_are_fetched_once_for_many_tokens() -> None:
    world = World({JWKS: Published([ONE]).document})
    ring = world.ring()
    found = await asyncio.gather(*(ring.signer("RS256", "k1") for _ in range(20)))
    assert {key and key.kid for key in found} == {"k1"}
    assert world.asked == [JWKS]


async def test_an_unknown_key_has_them_fetched_anew_but_not_again_and_again() -> None:
    world = World({JWKS: Published([ONE]).document})
    ring = world.ring()
    assert await ring.signer("RS256", "k1")
    world.pages[JWKS] = Published([ONE, TWO]).document
    world.now += 11
    assert await ring.signer("RS256", "k2")
    for number in range(50):
        world.now += 0.1
        assert await ring.signer("RS256", f"bogus-{number}") is None
    assert len(world.asked) == 2
    world.now += 10
    assert await ring.signer("RS256", "bogus") is None
    assert len(world.asked) == 3


async def test_an_outage_is_outlived_for_a_while_and_not_for_ever() -> None:
    world = World({JWKS: Published([ONE]).document})
    ring = world.ring()
    assert await ring.signer("RS256", "k1")
    world.pages[JWKS] = httpx.ConnectError("refused")
    world.now += 3599
    assert await ring.signer("RS256", "k1")
    with pytest.raises(Unavailable):
        await ring.signer("RS256", "k2")
    world.now += 2
    with pytest.raises(Unavailable, match="cannot be fetched"):
        await ring.signer("RS256", "k1")
    world.pages[JWKS] = Published([ONE]).document
    world.now += 11
    assert await ring.signer("RS256", "k1")


@pytest.mark.parametrize("page", [500, 302, b"<html>", b"[]", b"{}", b"x" * 300_000, b"[" * 100_000, {"keys": "no"},
                                  {"keys": [{"kty": "oct", "k": "AA"}]}, httpx.ReadTimeout("late")])  # fmt: skip
async def test_an_answer_that_is_no_keys_changes_nothing(page: object) -> None:
    world = World({JWKS: Published([ONE]).document})
    ring = world.ring()
    assert await ring.signer("RS256", "k1")
    world.pages[JWKS] = page
    world.now += 60
    with pytest.raises(Unavailable):
        await ring.signer("RS256", "k2")
    assert await ring.signer("RS256", "k1")


async def test_an_issuer_that_never_answers_is_not_waited_for() -> None:
    world = World({JWKS: Published([ONE]).document}, delay_s=30)
    with pytest.raises(Unavailable, match="TimeoutError"):
        await world.ring(pace=Pace(timeout_s=0.05)).signer("RS256", "k1")


@pytest.mark.parametrize("where", [METADATA, OPENID])
async def test_keys_are_found_by_metadata(where: str) -> None:
    world = World({where: {"issuer": ISSUER, "jwks_uri": JWKS}, JWKS: Published([ONE]).document})
    assert await world.ring("").signer("RS256", "k1")


@pytest.mark.parametrize("said", [
    {"issuer": "https://evil.example", "jwks_uri": JWKS}, {"issuer": ISSUER, "jwks_uri": "http://id.example.com/keys"},
    {"issuer": ISSUER}, {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}, {"jwks_uri": JWKS},
])  # fmt: skip
async def test_metadata_of_somebody_else_or_over_an_open_wire_is_not_believed(said: object) -> None:
    world = World({METADATA: said, JWKS: Published([ONE]).document})
    with pytest.raises(Unavailable):
        await world.ring("").signer("RS256", "k1")
    assert JWKS not in world.asked


async def test_keys_are_kept_fresh_without_a_call() -> None:
    world = World({JWKS: Published([ONE]).document})
    ring = world.ring(pace=Pace(refresh_s=0.01))
    work = asyncio.create_task(ring.run())
    async with asyncio.timeout(20):
        while len(world.asked) < 3:
            await asyncio.sleep(0.01)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    assert not ring.problem
