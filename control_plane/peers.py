"""Mutual TLS in Traefik's dynamic configuration: how the gate calls instances, and how it asks who calls it.

``routes.yml`` stays what ``routes`` makes of it, but that instances are called over TLS; the rest is a file of its own,
``identity.yml``, which the agent writes first. Both name files by their content: a renewed certificate is another name,
and that is what Traefik notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Json = dict[str, object]

GATE = "tekup-gate"
CONTROL_PLANE = "tekup-control-plane"
GATE_HOST = "tekup-gate.internal"
"""What the internal entrypoint is called by: Traefik wants a certificate by the name that it is asked for."""
PARENT = "peers"
SERVICE_PREFIX = "mcp-"


@dataclass(frozen=True)
class Papers:
    """What a gate shows and whom it trusts, as files.

    Attributes:
        authority: What all names of this CA begin with, ``spiffe://<domain>/ns/default/dc/<dc>``.
        leaf: Certificate, those between it and a root, and key, in one file.
        roots: Whom to trust.
        ends: When the certificate ends, seconds since the epoch.
    """

    authority: str
    leaf: str
    roots: str
    ends: float


def identity(papers: Papers, services: Iterable[str]) -> Json:
    """The whole of ``identity.yml``.

    Args:
        papers: The gate's.
        services: Which are called.
    """
    pair = {"certFile": papers.leaf, "keyFile": papers.leaf}
    trusted = {"caFiles": [papers.roots], "clientAuthType": "RequireAndVerifyClientCert"}
    routers: Json = {
        PARENT: {
            "entryPoints": ["internal"],
            "rule": f"Host(`{GATE_HOST}`)",
            "middlewares": ["policy-internal", "lost"],
            "tls": {"options": PARENT},
        },
        f"{PARENT}-last": {"parentRefs": [PARENT], "rule": "PathPrefix(`/`)", "priority": 1, "service": "nobody"},
    }
    transports: Json = {transport_of(name): _transport(papers, pair, name) for name in sorted(services)}
    return {
        "http": {"routers": routers, **({"serversTransports": transports} if transports else {})},
        "tls": {
            "options": {PARENT: {"minVersion": "VersionTLS13", "clientAuth": trusted}},
            # Consul's certificates hold no host name, so this one is shown for want of another: public names have
            # certificates of their own, which Traefik prefers.
            "stores": {"default": {"defaultCertificate": pair}},
        },
    }


def transport_of(service: str) -> str:
    """The name of the transport to a service's instances, which is also the name in their certificates."""
    return f"{SERVICE_PREFIX}{service}"


def _transport(papers: Papers, pair: Mapping[str, str], service: str) -> Json:
    return {
        "certificates": [dict(pair)],
        "rootCAs": [papers.roots],
        "peerCertURI": f"{papers.authority}/svc/{transport_of(service)}",
        # With peerCertURI Traefik checks chain and name itself; what is skipped is the host name, which they have not.
        "insecureSkipVerify": True,
        # One call a connection, many connections: docs/decisions/0021.
        "disableHTTP2": True,
        "maxIdleConnsPerHost": 100,
        "forwardingTimeouts": {"dialTimeout": "2s", "responseHeaderTimeout": "30s", "idleConnTimeout": "60s"},
    }


def over_tls(routes: Mapping[str, object]) -> Json:
    """The same routes with instances called over mutual TLS, and open to callers with certificates.

    Args:
        routes: As ``routes.routes`` makes them.
    """
    http = routes["http"]
    assert isinstance(http, dict)  # noqa: S101
    routers = {name: {**router, "parentRefs": _parents(router)} for name, router in http["routers"].items()}
    services = {name: _called_over_tls(name, service) for name, service in http.get("services", {}).items()}
    return {"http": {"routers": routers, **({"services": services} if services else {})}}


def _parents(router: Mapping[str, object]) -> list[object]:
    parents = router["parentRefs"]
    return [*parents, f"{PARENT}@file"] if isinstance(parents, list) else []


def _called_over_tls(name: str, service: Mapping[str, object]) -> Json:
    balancer = service.get("loadBalancer")
    if not isinstance(balancer, dict):
        return dict(service)
    servers = [{**server, "url": server["url"].replace("http://", "https://", 1)} for server in balancer["servers"]]
    # A service's name holds neither of the signs that what is made of it goes on with.
    owner = name.partition("_")[0].partition(".")[0]
    return {**service, "loadBalancer": {**balancer, "serversTransport": transport_of(owner), "servers": servers}}
