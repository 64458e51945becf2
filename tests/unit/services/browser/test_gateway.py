"""The egress process: its passes, its server, and pages' proxies that go through it."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.addresses import Address, HostRule, Policy
from services.common.egress import Egress, Through
from services.common.egress.gateway import Gateway
from services.common.egress.passes import PassError, made_pass, read_pass
from services.common.signing import Keyring
from tests.support.lines import whole_lines

if TYPE_CHECKING:
    from tests.unit.services.browser.conftest import Web

pytestmark = [pytest.mark.feature("B1"), pytest.mark.asyncio(loop_scope="module")]

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_800_000_000.0
ROOT = Path(__file__).parents[4]


def allowing(*hosts: str) -> Policy:
    return Policy(frozenset(map(HostRule.of, hosts)))


async def test_a_pass_carries_the_client_and_its_hosts() -> None:
    policy = allowing("dev.internal:8080", "[::1]:3000", "box")
    found = read_pass((OTHER, KEY), made_pass(KEY, "ci~1", policy, NOW), NOW + 30)
    assert (found.client, found.policy) == ("ci~1", policy)


@pytest.mark.parametrize("later", [-200.0, 120.0])
async def test_a_pass_does_not_last(later: float) -> None:
    with pytest.raises(PassError, match="it is over"):
        read_pass((KEY,), made_pass(KEY, "ci", Policy(), NOW), NOW + later)


async def test_a_pass_that_no_key_made_or_that_was_changed_does_not_count() -> None:
    made = made_pass(KEY, "ci", Policy(), NOW)
    payload, tag = made.split(".")
    for text in ("", ".", "x.y", "é", payload, f"{payload}.", f"{payload}x.{tag}", f"{payload}.{tag}x", made[:-1]):
        with pytest.raises(PassError):
            read_pass((KEY,), text, NOW)
    with pytest.raises(PassError, match="no key of the service"):
        read_pass((OTHER,), made, NOW)


async def on_loopback(_host: str, _port: int) -> list[Address]:
    return [ip_address("127.0.0.1")]


@asynccontextmanager
async def through(*hosts: str, key: bytes = KEY) -> AsyncIterator[Egress]:
    """A page's proxy that goes through an egress server which knows `KEY`."""
    gateway = Gateway(Keyring((KEY,)), on_loopback, lambda: NOW)
    async with gateway.open("127.0.0.1", 0):
        way = Through("127.0.0.1", gateway.port, lambda: made_pass(key, "ci", allowing(*hosts), NOW))
        async with Egress.open(way) as egress:
            yield egress


async def ask(port: int, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            writer.write(request.encode("latin-1"))
            return (await reader.read(-1)).decode("latin-1")
    finally:
        writer.close()


async def test_what_the_pass_allows_is_reached_plainly_and_by_a_tunnel(web: "Web") -> None:
    web.pages["/"] = b"HTTP/1.1 200 OK\r\n\r\nhere"
    async with through(f"site.test:{web.port}") as egress:
        plain = await ask(egress.port, f"GET http://site.test:{web.port}/ HTTP/1.1\r\n\r\n")
        tunnel = await ask(egress.port, f"CONNECT site.test:{web.port} HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        assert egress.take_refused() == []
    assert plain.endswith("here")
    assert tunnel.endswith("here")


async def test_what_the_pass_does_not_allow_is_refused_with_the_same_reason(inner: "Web") -> None:
    async with through("site.test:1") as egress:
        assert (await ask(egress.port, f"GET http://site.test:{inner.port}/ HTTP/1.1\r\n\r\n")).startswith(
            "HTTP/1.1 403"
        )
        (refused,) = egress.take_refused()
    assert refused.reason == "has a loopback address, which pages may not reach"


async def test_metadata_services_are_refused_whatever_the_pass_says() -> None:
    async def metadata(_host: str, _port: int) -> list[Address]:
        return [ip_address("169.254.169.254")]

    gateway = Gateway(Keyring((KEY,)), metadata, lambda: NOW)
    given = made_pass(KEY, "ci", allowing("169.254.169.254", "x.test"), NOW)
    async with gateway.open("127.0.0.1", 0):
        for host in ("x.test", "169.254.169.254"):
            answer = await ask(
                gateway.port, f"CONNECT {host}:80 HTTP/1.1\r\nProxy-Authorization: Bearer {given}\r\n\r\n"
            )
            assert answer.startswith("HTTP/1.1 403")
            assert "metadata service" in answer


async def test_without_a_pass_nothing_is_resolved(web: "Web") -> None:
    async def never(host: str, _: int) -> list[Address]:
        raise AssertionError(host)

    gateway = Gateway(Keyring((KEY,)), never, lambda: NOW)
    forged = made_pass(OTHER, "ci", allowing("127.0.0.1"), NOW)
    async with gateway.open("127.0.0.1", 0):
        for fields in ("", "Proxy-Authorization: Bearer x\r\n", f"Proxy-Authorization: Bearer {forged}\r\n"):
            answer = await ask(gateway.port, f"CONNECT 127.0.0.1:{web.port} HTTP/1.1\r\n{fields}\r\n")
            assert answer.startswith("HTTP/1.1 407")
        assert (await ask(gateway.port, f"GET {web.url()} HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 405")
        assert (await ask(gateway.port, "GET /health HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 200")
    assert web.seen == []


async def test_an_egress_server_that_is_away_is_told(web: "Web") -> None:
    async with through("site.test", key=OTHER) as egress:
        await ask(egress.port, f"GET http://site.test:{web.port}/ HTTP/1.1\r\n\r\n")
        (refused,) = egress.take_refused()
        assert "407 Proxy Authentication Required" in refused.reason
    async with Egress.open(Through("127.0.0.1", 1, lambda: "x")) as egress:
        await ask(egress.port, f"GET http://site.test:{web.port}/ HTTP/1.1\r\n\r\n")
        (refused,) = egress.take_refused()
        assert "the egress proxy 127.0.0.1:1 does not answer" in refused.reason


def started(env: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as out:
        command = [sys.executable, "-m", "services.common.egress"]
        return subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out)


@pytest.mark.feature("E3")
async def test_it_runs_as_a_process_of_its_own_takes_up_new_keys_and_ends_in_order(web: "Web", tmp_path: Path) -> None:
    web.pages["/"] = b"HTTP/1.1 200 OK\r\n\r\nhere"
    keys = tmp_path / "secrets.json"
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    keys.write_text(json.dumps({"service": "browser", "keys": [first.hex()]}))
    log = tmp_path / "log"
    env = {"PATH": os.environ["PATH"], "MCP_SECRETS_FILE": str(keys), "MCP_EGRESS_LISTEN": "127.0.0.1:0"}
    process = started(env, log)
    try:

        async def port() -> int:
            async with asyncio.timeout(30):
                while True:
                    for line in whole_lines(log):
                        if '"serving"' in line:
                            return int(json.loads(line)["port"])
                    assert process.poll() is None, log.read_text()
                    await asyncio.sleep(0.05)

        where = await port()

        async def reached(key: bytes) -> bool:
            way = Through(
                "127.0.0.1", where, lambda: made_pass(key, "ci", allowing(f"127.0.0.1:{web.port}"), time.time())
            )
            async with Egress.open(way) as egress:
                return (await ask(egress.port, f"GET {web.url()} HTTP/1.1\r\n\r\n")).endswith("here")

        assert await reached(first)
        assert not await reached(second)
        keys.write_text(json.dumps({"service": "browser", "keys": [second.hex(), first.hex()]}))
        async with asyncio.timeout(20):
            while not await reached(second):
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_process_without_the_keys_does_not_start() -> None:
    env = {"PATH": os.environ["PATH"], "MCP_EGRESS_LISTEN": "nowhere", "MCP_STANDALONE": "true"}
    command = [sys.executable, "-m", "services.common.egress"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == os.EX_CONFIG
    assert "'nowhere' is not host:port" in done.stderr
