"""The gate's entrypoint for operators: the API and the console of every replica, by TLS, on a port of its own.

It is there wherever the gate has a certificate. Who may do what is the control plane's to say, as on its own port.
"""

import json

from .parts import OPERATORS_PORT, Parts
from .settings import replica_ports

ENTRYPOINT = """operators:
    address: "{address}"
    http2: {{maxConcurrentStreams: 250}}
    http:
      aliasHeadersStrategy: reject
      maxHeaderBytes: 16384
      # the id of a thing may hold a slash
      encodedCharacters: {{allowEncodedSlash: true, allowEncodedBackSlash: false, allowEncodedNullCharacter: false, allowEncodedSemicolon: true, allowEncodedPercent: true, allowEncodedQuestionMark: true, allowEncodedHash: true}}
    observability: {{accessLogs: true, metrics: false, tracing: false}}   # calls of operators are no calls of tools
    transport: {{respondingTimeouts: {{readTimeout: 60s, writeTimeout: 0s, idleTimeout: 180s}}, lifeCycle: {{graceTimeOut: 5s}}}}"""  # noqa: E501
"""In `entryPoints` of traefik.yml.tmpl, indented as it is there."""


def operators_values(parts: Parts) -> dict[str, str]:
    """Values for what the templates of the gate say of operators; none where the gate has no certificate.

    Args:
        parts: the environment.
    """
    return {} if parts.effective.settings.tls == "off" else entry_values(parts)


def entry_values(parts: Parts) -> dict[str, str]:
    """Values for what the templates of a gate say of operators.

    Args:
        parts: the environment.
    """
    servers = [{"url": parts.url(port)} for port in replica_ports(parts.effective.settings).values()]
    return {
        "OPERATORS": ENTRYPOINT.format(address=parts.listening(OPERATORS_PORT)),
        "OPERATORS_SERVERS": json.dumps(servers),
    }
