"""A Consul server that lost its data and meets a catalog that knew it is who it was: what registers with it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from compose.local.consul_config import NODE_ID, give_node_id, node_id
from tests.support.consul_cluster import Server
from tests.support.gate import wait_until
from tests.support.ports import free_ports

NODES = ("n1", "n2", "n3")
SHOWS_S = 30.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Server]]:
    """Three, by name, each with an id of its name; one leads."""
    gossip = dict(zip(NODES, free_ports(len(NODES)), strict=True))
    made = {}
    for name in NODES:
        (tmp_path / name).mkdir()
        others = [f"127.0.0.1:{port}" for port in gossip.values()]
        made[name] = Server(tmp_path / name, name, gossip[name], others)
    try:
        for server in made.values():
            server.launch()
        wait_until(lambda: all(server.leader() for server in made.values()), "a leader of three servers", SHOWS_S)
        yield made
    finally:
        for server in made.values():
            server.kill()


def shows(server: Server, name: str) -> bool:
    url = f"{server.url}/v1/catalog/service/{name}"
    answer = httpx.get(url, timeout=2, trust_env=False)
    return answer.is_success and bool(answer.json())


def test_what_registers_with_a_server_that_came_back_shows_in_a_restored_catalog(
    servers: dict[str, Server],
) -> None:
    led = servers["n1"].leader()
    lost = next(server for server in servers.values() if server.address != led)
    first = next(server for server in servers.values() if server.address == led)
    kept = httpx.get(f"{first.url}/v1/snapshot", trust_env=False).raise_for_status().content
    lost.kill()
    lost.lose_data()
    lost.launch()
    wait_until(lambda: bool(lost.leader()), "the server that came back to know a leader", SHOWS_S)
    httpx.put(f"{first.url}/v1/snapshot", content=kept, timeout=30, trust_env=False).raise_for_status()
    wait_until(lambda: bool(lost.leader()), "a leader after the restore", SHOWS_S)
    wanted = {"Name": "after", "Port": 1}
    httpx.put(f"{lost.url}/v1/agent/service/register", json=wanted, trust_env=False).raise_for_status()
    wait_until(lambda: shows(first, "after"), "what registered after the restore in the catalog", SHOWS_S)


def test_an_id_that_is_there_stays(tmp_path: Path) -> None:
    give_node_id(tmp_path, "n1")
    assert (tmp_path / NODE_ID).read_text() == node_id("n1")
    (tmp_path / NODE_ID).write_text("of Consul's own making")
    give_node_id(tmp_path, "n1")
    assert (tmp_path / NODE_ID).read_text() == "of Consul's own making"


def test_no_two_names_have_one_id() -> None:
    assert len({node_id(name) for name in NODES}) == len(NODES)
