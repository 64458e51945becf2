"""The way out, spoken to directly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from services.common.addresses import Address, HostRule, Policy
from services.common.egress import Direct, Egress, Way

if TYPE_CHECKING:
    from tests.unit.services.browser.conftest import Web

pytestmark = [pytest.mark.feature("B1"), pytest.mark.asyncio(loop_scope="module")]


def allowing(*hosts: str) -> Way:
    return Direct(Policy(frozenset(map(HostRule.of, hosts))))


@asynccontextmanager
async def connected(egress: Egress) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", egress.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(egress: Egress, request: str) -> str:
    async with connected(egress) as (reader, writer), asyncio.timeout(5):
        writer.write(request.encode("latin-1"))
        return (await reader.read(-1)).decode("latin-1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "0",
             "[::ffff:127.0.0.1]"],
)  # fmt: skip
async def test_loopback_is_refused_in_every_spelling(inner: "Web", host: str) -> None:
    async with Egress.open(Direct(Policy())) as egress:
        for request in (
            f"GET http://{host}:{inner.port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
            f"CONNECT {host}:{inner.port} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        ):
            answer = await ask(egress, request)
            assert answer.startswith(("HTTP/1.1 403", "HTTP/1.1 502")), answer
        assert {refused.port for refused in egress.take_refused()} == {inner.port}
        assert egress.take_refused() == []


async def test_a_request_reaches_an_allowed_host_with_its_path_headers_and_body(web: "Web") -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n" + body)

    web.pages["/path"] = echo
    async with Egress.open(allowing(f"127.0.0.1:{web.port}")) as egress:
        answer = await ask(
            egress,
            f"POST {web.url('/path?')} HTTP/1.1\r\nHost: x\r\nProxy-Connection: y\r\nContent-Length: 5\r\n\r\nhello",
        )
    assert answer == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    assert web.seen == ["POST /path? HTTP/1.1"]


async def test_a_chunked_body_is_passed_on_as_it_is(web: "Web") -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    web.pages["/"] = echo
    async with Egress.open(allowing("127.0.0.1")) as egress:
        sent = "3\r\nabc\r\n0\r\n\r\n"
        answer = await ask(egress, f"POST {web.url()} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{sent}")
    assert answer.endswith(sent)


async def test_what_follows_a_request_on_its_connection_goes_nowhere(web: "Web", inner: "Web") -> None:
    web.pages["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    one = f"GET {web.url()} HTTP/1.1\r\n\r\n"
    async with Egress.open(allowing("127.0.0.1")) as egress:
        await ask(egress, one + f"GET {inner.url()} HTTP/1.1\r\n\r\n")
    assert len(web.seen) <= 1


async def test_a_tunnel_carries_both_ways(web: "Web") -> None:
    web.pages["/"] = b"HTTP/1.1 200 OK\r\n\r\nthrough"
    async with Egress.open(allowing(f"127.0.0.1:{web.port}")) as egress:
        answer = await ask(egress, f"CONNECT 127.0.0.1:{web.port} HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 Connection established")
    assert answer.endswith("through")


async def test_a_name_is_resolved_once_and_that_address_is_used(web: "Web") -> None:
    asked: list[str] = []

    async def changing(host: str, _: int) -> list[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "127.0.0.9")]

    web.pages["/"] = b"HTTP/1.1 200 OK\r\n\r\nhere"
    async with Egress.open(Direct(Policy(frozenset({HostRule.of("site.test")})), changing)) as egress:
        answer = await ask(egress, f"GET http://site.test:{web.port}/ HTTP/1.1\r\n\r\n")
    assert answer.endswith("here")
    assert asked == ["site.test"]


async def test_of_several_addresses_a_special_one_is_never_tried(inner: "Web") -> None:
    async def mixed(_host: str, _port: int) -> list[Address]:
        return [ip_address("127.0.0.1"), ip_address("::1"), ip_address("169.254.169.254")]

    async with Egress.open(Direct(Policy(), mixed)) as egress:
        answer = await ask(egress, f"GET http://site.test:{inner.port}/ HTTP/1.1\r\n\r\n")
        (refused,) = egress.take_refused()
    assert answer.startswith("HTTP/1.1 403")
    assert "has a loopback address" in refused.reason


async def test_a_name_without_an_address_is_told(web: "Web") -> None:
    async with Egress.open(Direct(Policy())) as egress:
        assert (await ask(egress, "CONNECT nothing.invalid:443 HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 502")
        (refused,) = egress.take_refused()
    assert "does not resolve" in refused.reason


@pytest.mark.parametrize(
    "request_text",
    ["GET / HTTP/1.1", "nonsense", "GET ftp://x/ HTTP/1.1", "CONNECT :x HTTP/1.1", "GET http:// HTTP/1.1", "\x00\xff"],
)
async def test_what_is_no_proxy_request_is_cut_off(request_text: str) -> None:
    async with Egress.open(Direct(Policy())) as egress:
        assert "200" not in await ask(egress, f"{request_text}\r\n\r\n")


async def test_closing_cuts_what_still_runs(web: "Web") -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    web.pages["/"] = never
    async with Egress.open(allowing("127.0.0.1")) as egress:
        reader, writer = await asyncio.open_connection("127.0.0.1", egress.port)
        writer.write(f"GET {web.url()} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(5):
            while not web.seen:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert await reader.read(-1) == b""
    writer.close()


async def test_an_answer_without_end_is_cut_and_told(web: "Web") -> None:
    async def bomb(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    web.pages["/"] = bomb
    async with Egress.open(allowing("127.0.0.1"), answer_bytes=3 << 20) as egress:
        for line in (f"GET {web.url()} HTTP/1.1\r\n\r\n", f"CONNECT 127.0.0.1:{web.port} HTTP/1.1\r\n\r\n"):
            async with connected(egress) as (reader, writer), asyncio.timeout(20):
                writer.write(line.encode())
                if line.startswith("CONNECT"):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                came = 0
                try:
                    while chunk := await reader.read(1 << 20):
                        came += len(chunk)
                except ConnectionError:
                    pass
                assert came < 4 << 20
            (refused,) = egress.take_refused()
            assert refused.reason == "sent more than 3 MiB in one connection, which was cut"
