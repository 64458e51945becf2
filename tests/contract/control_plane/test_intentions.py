"""Intentions as the leader keeps them in a real Consul, and the token that is sent with every request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from control_plane.authority import Authority
from control_plane.config_entries import ConfigEntries
from control_plane.consul import Consul
from control_plane.intentions import Intentions
from control_plane.leadership import Leadership
from control_plane.registry import Registry
from control_plane.tokens import TokenFile
from services.common.listen import bind, listening
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until
from tests.support.identities import CONNECT, allow, change_ca, papers

pytestmark = [pytest.mark.local, pytest.mark.feature("E1")]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Consul with a CA."""
    with ConsulProcess(tmp_path_factory.mktemp("consul"), connect=CONNECT) as consul:
        papers(consul, "tekup-gate")
        yield consul


@pytest.fixture
async def entries(ca: ConsulProcess) -> AsyncIterator[ConfigEntries]:
    async with ConfigEntries(ca.url) as made:
        yield made


def indices(consul: ConsulProcess) -> dict[str, int]:
    """All entries and when each was last written."""
    found = httpx.get(f"{consul.url}/v1/config/service-intentions", trust_env=False).json()
    return {entry["Name"]: entry["ModifyIndex"] for entry in found}


async def test_the_leader_writes_what_is_missing_once_and_removes_what_is_gone(
    ca: ConsulProcess, entries: ConfigEntries
) -> None:
    services = {"alpha", "hub"}

    async def in_policy() -> frozenset[str]:
        return frozenset(services)

    async with Consul(ca.url) as consul:
        leadership = Leadership(consul, "r1", url="http://127.0.0.1:1", ttl_s=5)
        kept = Intentions(entries, leadership, Registry(consul), in_policy, accept_new=True)
        await kept.keep()
        written = indices(ca)
        assert written.keys() == {"mcp-alpha", "mcp-hub", "tekup-gate"}
        await kept.keep()
        assert indices(ca) == written

        allow(ca, "mcp-alpha", "tekup-gate", "mcp-hub")  # somebody lets in more
        allow(ca, "somebody-elses", "else")
        services.remove("hub")
        await kept.keep()
        there = await entries.read()
        assert there.keys() == {"mcp-alpha", "tekup-gate", "somebody-elses"}
        assert there["mcp-alpha"].sources == {"tekup-gate"}


async def test_anothers_write_in_between_is_left_alone(ca: ConsulProcess, entries: ConfigEntries) -> None:
    allow(ca, "mcp-raced", "first")
    before = (await entries.read())["mcp-raced"].index
    allow(ca, "mcp-raced", "second")
    await entries.write("mcp-raced", ("late",), before)
    assert (await entries.read())["mcp-raced"].sources == {"second"}


async def test_a_token_is_sent_and_read_again_each_time(tmp_path: Path) -> None:
    seen: list[str] = []

    async def consul(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"x-consul-token", b"").decode())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"[]"})

    token = tmp_path / "token"
    token.write_text("first\n")
    token.chmod(0o600)
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.port}"
    async with listening(consul, listener), ConfigEntries(url, token=TokenFile(token)) as made:
        await made.read()
        token.write_text("second\n")
        await made.read()
        token.unlink()
        await made.read()
    assert seen == ["first", "second", "second"]


async def test_a_changed_ca_gives_another_certificate_and_the_old_root_stays(ca: ConsulProcess) -> None:
    async with Authority(ca.url, "tekup-gate") as authority:
        work = asyncio.create_task(authority.run())
        try:
            await asyncio.to_thread(wait_until, lambda: authority.known, "the first answers", 20)
            leaf, roots = authority.leaf, authority.roots
            await asyncio.to_thread(change_ca, ca)

            def other() -> bool:
                return authority.leaf != leaf and authority.roots != roots

            # Consul spreads the new certificates over 30 s, so that not all are asked for at once.
            await asyncio.to_thread(wait_until, other, "another certificate, and roots", 90)
            assert roots.strip() in authority.roots
        finally:
            work.cancel()
