"""What the engine has no limit for: what a container sends, and how much its data may hold."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.engine import Engine
from tests.support.flood import FLOOD
from tests.support.gate import wait_until
from tests.support.images import Container, container, hardened, tagged

pytestmark = [pytest.mark.docker, pytest.mark.feature("E4")]

RATE = 20_000_000 // 8
SENT_S = 3.0
SLACK = 1.25
DISK = 48 << 20
BLOCK = "0123456789abcde\n" * (1 << 16)


@pytest.fixture
def network(engine: Engine, images: str, run_prefix: str) -> Iterator[str]:
    """A network of the test's own, without a way out."""
    name = f"{run_prefix}-links"
    engine.docker("network", "create", "--internal", name)
    yield name
    engine.docker("network", "rm", name)


@pytest.fixture
def links(engine: Engine, images: str, run_prefix: str) -> Iterator[Container]:
    """`links` as the Compose files run it."""
    socket = engine.host.removeprefix("unix://") or "/var/run/docker.sock"
    with container(
        engine, run_prefix, tagged("control-plane"), "--init", "--read-only", "--tmpfs", "/tmp",
        *("--user", "0:0", "--pid", "host", "--network", "none", "--cap-drop", "ALL", "--cap-add", "SYS_ADMIN"),
        *("--cap-add", "SYS_PTRACE", "--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges"),
        *("--volume", f"{socket}:/run/engine.sock", "--env", f"MCP_PROJECT={run_prefix}-links"),
        *("--entrypoint", "/opt/tekup/bin/python"), command=("-m", "compose.containers.links"),
    ) as running:  # fmt: skip
        yield running


def member(engine: Engine, prefix: str, network: str, *labels: str) -> Iterator[Container]:
    """A container of the project that waits."""
    named = [part for label in (f"com.docker.compose.project={prefix}-links", *labels) for part in ("--label", label)]
    wait = ("-c", "import signal; signal.pause()")
    with container(
        engine, prefix, tagged("control-plane"), *hardened("control-plane"), "--network", network, *named,
        "--entrypoint", "/opt/tekup/bin/python", command=wait,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
def neighbour(engine: Engine, run_prefix: str, network: str) -> Iterator[Container]:
    """One without a bound."""
    yield from member(engine, run_prefix, network)


@pytest.fixture
def hog(engine: Engine, run_prefix: str, network: str) -> Iterator[Container]:
    """One whose links may send 20 Mbit/s."""
    yield from member(engine, run_prefix, network, "tekup.bandwidth=20mbit")


def sends(one: Container, to: Container) -> float:
    """Bytes per second that it gets rid of."""
    (about,) = json.loads(one.engine.docker("inspect", to.id))
    (link,) = about["NetworkSettings"]["Networks"].values()
    said = one.execute("/opt/tekup/bin/python", "-c", FLOOD, link["IPAddress"], str(SENT_S))
    return float(json.loads(said)["rate"])


def bounded(links: Container, times: int) -> None:
    wait_until(lambda: links.log().count("links are bounded") == times, "links to be bounded", 30)


def test_what_hogs_the_network_sends_no_more_than_its_bound_also_after_a_restart(
    links: Container, neighbour: Container, hog: Container, engine: Engine
) -> None:
    bounded(links, 1)
    assert RATE / 2 < sends(hog, neighbour) < RATE * SLACK
    assert sends(neighbour, hog) > 2 * RATE, "one without a bound sends as much as it can"
    engine.docker("restart", "--time", "1", hog.id)
    bounded(links, 2)
    assert sends(hog, neighbour) < RATE * SLACK


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own, made as docs/containers.md says."""
    image, folder = tmp_path / "data.img", tmp_path / "data"
    folder.mkdir()
    subprocess.run(["truncate", "-s", str(DISK), str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,nosuid,nodev", str(image), str(folder)], check=True)
    try:
        subprocess.run(["chown", "10001:10001", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def filled(url: str) -> tuple[str, int]:
    """Write files until one is refused: what that said, and how many there were before."""
    async with httpx2.AsyncClient(timeout=60) as http, Client(streamable_http_client(url, http_client=http)) as client:
        for kept in range(2 * DISK // len(BLOCK)):
            told = await client.call_tool("filesystem_write_file", {"path": f"f{kept}", "content": BLOCK})
            if told.is_error:
                assert not (await client.call_tool("filesystem_read_file", {"path": "f0", "limit": 1})).is_error
                (text,) = told.content
                return getattr(text, "text", ""), kept
    raise AssertionError("it never was full")


def test_data_with_a_hard_size_is_full_at_it_and_keeps_what_it_has(
    engine: Engine, images: str, run_prefix: str, small_disk: Path
) -> None:
    with container(
        engine, run_prefix, tagged("filesystem"), *hardened("filesystem"), "--env", "MCP_STANDALONE=true",
        *("--volume", f"{small_disk}:/data", "--publish", "127.0.0.1::3002"),
    ) as running:  # fmt: skip
        running.healthy()
        said, kept = asyncio.run(filled(f"http://{running.address(3002)}/mcp"))
        assert "full" in said
    sizes = {path.name: path.stat().st_size for path in small_disk.glob("f*")}
    assert sizes == {f"f{number}": len(BLOCK) for number in range(kept)}
