"""Three servers as outside development: who has not the key, the certificate or a token is nobody to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compose.local.consul_acl import MANAGEMENT, ROLES, Role, keeper_role, lay_out, make_tokens, read_token, token_file
from compose.local.consul_api import ConsulApi
from compose.local.layout import Layout
from control_plane.consul import Consul
from control_plane.errors import Unavailable
from control_plane.ports import Write
from control_plane.tokens import TokenFile
from services.common.errors import RegistryError
from services.common.registry import Registration, Registry
from tests.support.consul_production import Authority, ProductionCluster
from tests.support.gate import wait_until

pytestmark = [pytest.mark.local, pytest.mark.timeout(240), pytest.mark.feature("E7"), pytest.mark.feature("E5")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionCluster]:
    with ProductionCluster(tmp_path_factory.mktemp("production")) as made:
        yield made


@pytest.fixture(scope="module")
def layout(cluster: ProductionCluster, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Tokens of all roles, introduced to the cluster over TLS."""
    layout = Layout(tmp_path_factory.mktemp("tokens"))
    layout.make_folders()
    make_tokens(layout)
    with ConsulApi(cluster.servers[0].url, cluster.authority.ca) as api:
        assert lay_out(layout, api)
        assert not lay_out(layout, api)
    return layout


def members(cluster: ProductionCluster, layout: Layout) -> set[str]:
    """Who has joined, as each server sees it."""
    token = read_token(token_file(layout, MANAGEMENT))
    seen: list[set[str]] = []
    for server in cluster.servers:
        found: list[dict[str, Any]] = server.ask("/v1/agent/members", cluster.authority.ca, token).json()
        seen.append({one["Name"] for one in found if one["Status"] == 1})
    return set.union(*seen)


def test_a_server_without_the_gossip_key_or_with_another_cannot_join(
    cluster: ProductionCluster, layout: Layout
) -> None:
    plain, other = (
        cluster.guest("plain", key=""),
        cluster.guest("other", key="b3RoZXIga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhISE="),
    )
    for guest in (plain, other):
        wait_until(lambda guest=guest: "Join cluster failed" in guest.log.read_text(), f"{guest.log} to say no", 60)  # type: ignore[misc]
    assert members(cluster, layout) == {"s1", "s2", "s3"}
    assert not plain.leader(cluster.authority.ca)


def test_a_server_with_a_certificate_of_another_authority_gets_no_word_of_the_others(
    cluster: ProductionCluster, layout: Layout, tmp_path: Path
) -> None:
    stranger = cluster.guest("stranger", authority=Authority.make(tmp_path / "foreign"), change=as_client)
    wait_until(lambda: "certificate" in stranger.log.read_text(), f"{stranger.log} to say no", 60)
    with pytest.raises(httpx.HTTPError):
        stranger.ask("/v1/status/leader", cluster.authority.ca)


def as_client(own: dict[str, Any]) -> None:
    """An agent that is no server: its joining must not disturb the others' votes."""
    own["server"] = False
    own["bootstrap_expect"] = 0


def test_plain_http_is_refused(cluster: ProductionCluster) -> None:
    for server in cluster.servers:
        answer = httpx.get(f"{server.url.replace('https', 'http')}/v1/status/leader", timeout=5, trust_env=False)
        assert answer.status_code == 400
        assert "HTTP request to an HTTPS server" in answer.text


def test_a_client_that_does_not_know_the_authority_refuses(cluster: ProductionCluster, tmp_path: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{cluster.servers[0].url}/v1/status/leader", timeout=5, trust_env=False)
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        cluster.servers[0].ask("/v1/status/leader", Authority.make(tmp_path / "foreign").ca)


def test_without_a_token_nothing_is_told(cluster: ProductionCluster, layout: Layout) -> None:
    ca = cluster.authority.ca
    assert cluster.servers[0].ask("/v1/agent/members", ca).json() == []
    assert cluster.servers[0].ask("/v1/catalog/nodes", ca).json() == []
    assert cluster.servers[0].ask("/v1/agent/self", ca).status_code == 403


async def test_control_plane_and_instances_work_with_authority_and_token_and_not_without(
    cluster: ProductionCluster, layout: Layout
) -> None:
    url, ca = cluster.servers[1].url, cluster.authority.ca
    plane = TokenFile(token_file(layout, "control-plane"))
    async with Consul(url, token=plane, ca_file=ca) as consul:
        await consul.commit([Write("tekup/state/try", b"1")])
        assert "" in (await consul.read("tekup/state/try")).entries
        assert consul.token_accepted_s > 0
    async with Consul(url, token=plane) as blind:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await blind.read("tekup/state/try")
    wanted = Registration("browser", "a1b2c3", "1.0.0", "127.0.0.1", 4001, 4101, "serving")
    token = token_file(layout, "service-browser")
    good, blind_one, silent = (Registry(url, token_file=token, ca_file=ca), Registry(url, token_file=token),
                               Registry(url, ca_file=ca))  # fmt: skip
    try:
        await good.register(wanted)
        assert await good.holds(wanted)
        for bad in (blind_one, silent):
            with pytest.raises(RegistryError):
                await bad.register(wanted)
    finally:
        for registry in (good, blind_one, silent):
            await registry.close()


def test_every_role_of_an_environment_is_one_of_the_policy_files() -> None:
    files = {path.stem for path in (Path(__file__).parents[3] / "consul" / "policies").glob("*.hcl")}
    every = (*ROLES, keeper_role())  # a keeper is where containers are
    assert {role.template for role in every} == files
    assert all(isinstance(role, Role) and "${" not in role.rules() for role in every)
