"""The public entrypoint as data: values for the gate's templates that follow from the settings alone.

What may be sent, how slowly, how often from one address, and over which wire. Who may call what is the
plugin's to say, and certificates are `certificates`'.
"""

from .settings import Settings, listed

TLS_ROUTER = "tls: {}, "
"""In a router of the public entrypoint; the options are the default ones (traefik/tls.yml.tmpl)."""
PLAIN_ROUTER = 'plain: {entryPoints: [public], rule: "PathPrefix(`/`)", priority: 1000000000, middlewares: [plain], service: nobody}'  # noqa: E501
"""Above every router without TLS, so that one that forgets it is reachable by nobody rather than in the clear."""


def edge_values(settings: Settings) -> dict[str, str]:
    """Values for the placeholders of `traefik.yml.tmpl` and `gate.yml.tmpl` that the edge has.

    Args:
        settings: of the environment.
    """
    encrypted = settings.tls != "off"
    proxies = quoted(settings.gate_trusted_proxies)
    return {
        "EDGE": ", ".join(_middlewares(settings)),
        "TLS": TLS_ROUTER if encrypted else "",
        "PLAIN_ROUTER": PLAIN_ROUTER if encrypted else "# no TLS here",
        "HTTP3": "http3: {}" if encrypted and settings.tls_http3 else "# no HTTP/3 here",
        "OPERATORS": "# no entrypoint of their own for operators here",
        # a development name must not be held to https for a year: it would bind every port of localhost
        "HSTS_S": str(settings.tls_hsts_s if settings.tls == "files" else 0),
        "READ_TIMEOUT": f"{settings.gate_read_timeout_s:g}s",
        "BODY_BYTES": str(settings.gate_body_bytes),
        "TRUSTED_PROXIES": proxies,
        # who has one IPv6 address has a network of them; `excludedIPs` would count each for itself
        "ADDRESS": f"{{depth: {settings.gate_proxy_hops if proxies else 0}, ipv6Subnet: 64}}",
        "ADDRESS_RATE": str(settings.gate_address_rate),
        "ADDRESS_BURST": str(max(settings.gate_address_burst, settings.gate_address_rate, 1)),
        "ADDRESS_CALLS": str(max(settings.gate_address_connections, 1)),
    }


def quoted(text: str) -> str:
    """What is listed with commas between, as the inside of a list in YAML."""
    return ", ".join(f'"{one}"' for one in listed(text))


def _middlewares(settings: Settings) -> list[str]:
    """What each call meets before the plugin; a ceiling that is off is not in its way."""
    ceilings = []
    if settings.gate_address_connections:
        ceilings.append("address-calls")
    if settings.gate_address_rate:
        ceilings.append("address-rate")
    return ["edge-headers", *(["edge-refusals"] if ceilings else []), *ceilings]
