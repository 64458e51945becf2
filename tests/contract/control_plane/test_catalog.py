"""What the catalog makes of registrations, good and absurd, on a real Consul."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator

import pytest

from control_plane.consul import Consul
from tests.support import guest
from tests.support.consul_process import ConsulProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C1")]
META = {"version": "1.0.0", "instance": "aaaaaa", "state": "serving"}


@pytest.fixture
async def consul(own_consul: ConsulProcess) -> AsyncIterator[Consul]:
    async with Consul(own_consul.url) as consul:
        yield consul


def register(server: ConsulProcess, name: str, **changes: object) -> None:
    body = {"Name": name, "ID": f"{name}-aaaaaa", "Address": "127.0.0.1", "Port": 4001, "Meta": META, **changes}
    request = urllib.request.Request(f"{server.url}/v1/agent/service/register", json.dumps(body).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=5).close()


async def test_a_good_registration_is_an_instance(own_consul: ConsulProcess, consul: Consul) -> None:
    register(own_consul, "mcp-search")
    (found,) = (await consul.instances("search"))[1]
    assert (found.version, found.id, found.url, found.live) == ("1.0.0", "aaaaaa", "http://127.0.0.1:4001", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"Port": 0},
        {"Address": "evil host/{{x}}"},
        {"Address": "a/b"},
        {"Meta": {}},
        {"Meta": {**META, "version": "1/0"}},
        {"Meta": {**META, "version": "x" * 60}},
        {"Meta": {**META, "instance": "AAAAAA"}},
        {"Meta": {**META, "state": "odd"}},
        {"ID": "mcp-filesystem-aaaaaa"},
        {"ID": "mcp-search-bbbbbb"},
        {"Tags": ["traefik.enable=true", "traefik.http.routers.x.rule=PathPrefix(`/`)"]},
        {"Meta": {**META, "traefik_http_routers_x_priority": "9999"}},
        {"Kind": "connect-proxy", "Proxy": {"DestinationServiceName": "mcp-filesystem"}},
    ],
    ids=str,
)
async def test_an_absurd_registration_is_nobody_and_it_is_said_once(
    own_consul: ConsulProcess, consul: Consul, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    register(own_consul, "mcp-search", **changes)
    for _ in range(3):
        assert (await consul.instances("search"))[1] == ()
    (said,) = [record for record in caplog.records if record.message == "registration.refused"]
    assert vars(said)["registered"] == "search"
    assert consul.refused_registrations() == {"search": 1}
    register(own_consul, "mcp-search", ID=str(changes.get("ID", "mcp-search-aaaaaa")))
    await consul.instances("search")
    assert consul.refused_registrations() == ({"search": 1} if "ID" in changes else {})


async def test_a_meta_that_nobody_knows_means_nothing(own_consul: ConsulProcess, consul: Consul) -> None:
    register(own_consul, "mcp-search", Meta={**META, "weight": "100", "gate": "local", "token": "x"})
    (found,) = (await consul.instances("search"))[1]
    assert (found.version, found.id, found.live) == ("1.0.0", "aaaaaa", True)


async def test_what_was_refused_is_forgotten_with_its_service(own_consul: ConsulProcess, consul: Consul) -> None:
    register(own_consul, "mcp-search", Port=0)
    await consul.instances("search")
    assert (await consul.service_names())[1] == {"search"}
    assert consul.refused_registrations() == {"search": 1}
    guest.deregister(own_consul.url, "search", "aaaaaa")

    async def gone() -> bool:
        return (await consul.service_names())[1] == frozenset()

    await eventually(gone, "search out of the catalog", 20)
    assert consul.refused_registrations() == {}


async def test_names_that_make_no_sense_are_no_services(own_consul: ConsulProcess, consul: Consul) -> None:
    for name in ("mcp-", "mcp-Big", "mcp-" + "x" * 60, "mcp-control-plane", "mcp-a_b", "other", "mcp-good"):
        register(own_consul, name)
    assert (await consul.service_names())[1] == {"good"}


async def test_host_names_and_ipv6_are_addresses(own_consul: ConsulProcess, consul: Consul) -> None:
    register(own_consul, "mcp-one", Address="mcp-one.internal")
    register(own_consul, "mcp-two", Address="::1")
    assert [one.url for one in (await consul.instances("one"))[1]] == ["http://mcp-one.internal:4001"]
    assert [one.url for one in (await consul.instances("two"))[1]] == ["http://[::1]:4001"]


async def test_a_gate_is_found_by_its_private_entrypoint_and_nonsense_is_nobodys(
    own_consul: ConsulProcess, consul: Consul
) -> None:
    await consul.register_gate("eu-1", "127.0.0.1", 3006, "http://127.0.0.1:3006/ping")
    register(own_consul, "tekup-gate", ID="a", Meta={})
    register(own_consul, "tekup-gate", ID="b", Meta={"gate": "bad\nname"})
    register(own_consul, "tekup-gate", ID="c", Meta={"gate": "eu-2"}, Port=0)
    assert await consul.gate_urls() == {"eu-1": "http://127.0.0.1:3006"}
