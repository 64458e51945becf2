"""The other region is asked over TLS by an authority of one's own and with the shared secret; its answer is checked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from compose.local.authority import CA, issue, make_authority
from control_plane.errors import Refused, Unavailable
from control_plane.neighbour import Neighbour, region_secret
from control_plane.region import Part, Side

SECRET = "s" * 32
SIDE = Side(part=Part.HOME, epoch=3, number=7)
Serving = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "region.secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    folder = tmp_path / "authority"
    folder.mkdir()
    make_authority(folder, datetime.now(UTC))
    return folder


@pytest.fixture
def serving(authority: Path, tmp_path: Path) -> Serving:
    """Serves by a certificate of the authority: to who shows the secret `body`, and 401 to others."""
    pair = issue(authority, datetime.now(UTC))
    chain, key = tmp_path / "leaf.pem", tmp_path / "leaf.key"
    chain.write_text(pair.chain)
    key.write_text(pair.key)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(chain, key)

    @asynccontextmanager
    async def at(body: str = SIDE.model_dump_json(), status: str = "200 OK") -> AsyncIterator[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            said = status if f"authorization: bearer {SECRET}" in asked else "401 Unauthorized"
            writer.write(f"HTTP/1.1 {said}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=trust)
        async with server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    return at


async def test_its_certificate_is_trusted_by_the_authority_that_is_named(
    serving: Serving, secret_file: Path, authority: Path
) -> None:
    async with serving() as peer:
        assert await Neighbour(secret_file, authority / CA).look(peer) == SIDE
        assert await Neighbour(secret_file, authority / CA).copy(f"{peer}/", "stamp", 3) == SIDE


async def test_without_that_authority_nothing_is_said_to_it(serving: Serving, secret_file: Path) -> None:
    async with serving() as peer:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await Neighbour(secret_file).look(peer)


async def test_a_file_that_is_no_certificate_is_named(serving: Serving, secret_file: Path, tmp_path: Path) -> None:
    for bad in (secret_file, tmp_path / "none.pem"):
        with pytest.raises(Refused, match=r"MCP_REGION_CA_FILE: .* is no certificate"):
            await Neighbour(secret_file, bad).look("https://127.0.0.1:1")


async def test_another_secret_is_told_from_a_region_that_is_away(
    serving: Serving, secret_file: Path, authority: Path
) -> None:
    await asyncio.to_thread(secret_file.write_text, "o" * 32)
    async with serving() as peer:
        with pytest.raises(Refused, match="does not know our secret"):
            await Neighbour(secret_file, authority / CA).look(peer)
    with pytest.raises(Unavailable, match="does not answer"):
        await Neighbour(secret_file, authority / CA).look(peer)


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ("<html>", "200 OK", "no region's control plane"),
        ('{"part": "home", "epoch": -1, "number": 0}', "200 OK", "no region's control plane"),
        ("busy", "503 Service Unavailable", "answered 503: busy"),
    ],
)
async def test_what_is_no_answer_of_a_region_changes_nothing(
    body: str, status: str, why: str, serving: Serving, secret_file: Path, authority: Path
) -> None:
    async with serving(body, status) as peer:
        with pytest.raises(Unavailable, match=why):
            await Neighbour(secret_file, authority / CA).look(peer)


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [(SECRET, 0o644, "chmod 600"), ("short", 0o600, "fewer than 32"), (None, 0, "cannot be read")],
)
def test_a_secret_that_is_no_secret_is_not_used(text: str | None, mode: int, why: str, secret_file: Path) -> None:
    if text is None:
        secret_file.unlink()
    else:
        secret_file.write_text(text)
        secret_file.chmod(mode)
    with pytest.raises(Refused, match=why):
        region_secret(secret_file)
