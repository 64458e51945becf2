"""What a Traefik before two regions is configured with: calls go to the first, and to the second while that is away."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

# A gate answers this without a key, and only while its plugin decides.
CHECK = {"path": "/mcp", "method": "GET", "status": 405, "interval": "1s", "unhealthyInterval": "1s", "timeout": "1s"}
NAMES = ("first", "second")


def front(urls: Sequence[str], ca_file: str = "") -> str:
    """Dynamic configuration for Traefik's file provider.

    Args:
        urls: The public endpoint of each region's gates: the first region's, then the second's.
        ca_file: Whom to trust for their certificates; "" for whom the machine trusts.

    Returns:
        YAML. Each call goes to one region, and is tried again elsewhere only where no connection was made.
    """
    balancers = {
        name: {
            "loadBalancer": {
                "servers": [{"url": url}],
                "passHostHeader": True,
                "serversTransport": "regions",
                "healthCheck": dict(CHECK),
                # A reload takes every server for healthy until the next check.
                "passiveHealthCheck": {"failureWindow": "2s", "maxFailedAttempts": 1},
            }
        }
        for name, url in zip(NAMES, urls, strict=True)
    }
    failover = {"failover": {"service": NAMES[0], "fallback": NAMES[1], "healthCheck": {}}}
    transport: dict[str, object] = {"forwardingTimeouts": {"dialTimeout": "1s"}, "maxIdleConnsPerHost": 100}
    if ca_file:
        transport["rootCAs"] = [ca_file]
    configuration = {
        "http": {
            "routers": {"regions": {"rule": "PathPrefix(`/`)", "service": "regions", "middlewares": ["again"]}},
            "middlewares": {"again": {"retry": {"attempts": 4, "initialInterval": "100ms"}}},
            "services": {"regions": failover, **balancers},
            "serversTransports": {"regions": transport},
        }
    }
    return yaml.safe_dump(configuration, sort_keys=False)
