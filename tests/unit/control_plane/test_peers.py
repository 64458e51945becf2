"""The same routes over mutual TLS, and what the gate shows and wants to see."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.model import Instance, Lane, Policy, Revision, Rule, ServicePolicy
from control_plane.peers import Papers, identity, over_tls
from control_plane.routes import PARENTS, routes

PAPERS = Papers("spiffe://d.consul/ns/default/dc/dc1", "/gate/tls/leaf-1.pem", "/gate/tls/roots-1.pem", 0)
INSTANCES = (
    Instance("alpha", "1.0.0", "aaaaaa", "127.0.0.1", 4001),
    Instance("alpha", "1.1.0", "bbbbbb", "[::1]", 4002),
    Instance("a-b", "2", "cccccc", "127.0.0.1", 4003),
)
POLICY = Policy(
    Revision(epoch=1, number=1, tables={}),
    {
        "alpha": ServicePolicy(
            name="alpha",
            stable="1.0.0",
            lanes=(Lane(version="1.0.0", weight_pct=100),),
            rules=(Rule(name="copy", lanes=(Lane(version="1.0.0", weight_pct=100),), mirror="1.1.0"),),
        )
    },
    {},
    {},
)


def balancers(document: Any) -> dict[str, Any]:
    services = document["http"].get("services", {})
    return {name: one["loadBalancer"] for name, one in services.items() if "loadBalancer" in one}


def test_every_instance_is_called_over_tls_with_its_own_services_transport() -> None:
    found = balancers(over_tls(routes(POLICY, INSTANCES)))
    assert "alpha_1-0-0~alpha_1-1-0.copies" in found
    for name, balancer in found.items():
        assert balancer["servers"]
        assert all(server["url"].startswith("https://") for server in balancer["servers"])
        assert balancer["serversTransport"] == ("mcp-alpha" if name.startswith("alpha") else "mcp-a-b"), name


def test_nothing_else_changes_but_a_third_parent_of_each_target() -> None:
    plain: Any = routes(POLICY, INSTANCES)
    secure: Any = over_tls(plain)
    assert secure["http"]["services"].keys() == plain["http"]["services"].keys()
    for name, router in secure["http"]["routers"].items():
        before = plain["http"]["routers"][name]
        assert router == {**before, "parentRefs": [*before["parentRefs"], "peers@file"]}
    for name, balancer in balancers(secure).items():
        before = balancers(plain)[name]
        kept = {key: value for key, value in balancer.items() if key not in ("servers", "serversTransport")}
        assert kept == {key: value for key, value in before.items() if key not in ("servers", "serversTransport")}
    assert balancers(plain)["alpha_1-0-0.lb"]["servers"] == [{"url": "http://127.0.0.1:4001"}]


def test_a_gate_without_instances_still_has_its_placeholder() -> None:
    found: Any = over_tls(routes(None, ()))
    assert found["http"]["routers"]["placeholder"]["parentRefs"] == [*PARENTS, "peers@file"]


@pytest.mark.feature("F9")
@pytest.mark.parametrize("services", [(), ("alpha", "a-b")])
def test_each_service_is_expected_under_its_own_name(services: tuple[str, ...]) -> None:
    made: Any = identity(PAPERS, services)
    transports = made["http"].get("serversTransports", {})
    assert {one["peerCertURI"] for one in transports.values()} == {f"{PAPERS.authority}/svc/mcp-{s}" for s in services}
    assert all(one["rootCAs"] == [PAPERS.roots] and one["disableHTTP2"] for one in transports.values())


def test_the_internal_entrypoint_wants_a_certificate_of_the_same_ca() -> None:
    made: Any = identity(PAPERS, ())
    router = made["http"]["routers"]["peers"]
    options = made["tls"]["options"][router["tls"]["options"]]
    assert options["clientAuth"] == {"caFiles": [PAPERS.roots], "clientAuthType": "RequireAndVerifyClientCert"}
    assert options["minVersion"] == "VersionTLS13"
    assert router["entryPoints"] == ["internal"]
    assert router["middlewares"][0] == "policy-internal"
