"""How much each client has used: `tekup_gate_client_calls_total{client,service,outcome}` of all gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from compose.local.errors import LocalError
from compose.local.exits import Exit
from control_plane.cli.observe.asking import asking

__all__ = ["Used", "read_usage", "usage_query"]

TIMEOUT_S = 30.0
METRIC = "tekup_gate_client_calls_total"


class PrometheusFailed(LocalError):
    """Prometheus does not answer, or not as it should."""

    exit_code = Exit.FAILED


@dataclass(frozen=True)
class Used:
    """Calls of one client to one service.

    Args:
        client: Who; "" is nobody proven.
        service: What; "" where a refused call named none.
        passed: Calls that were passed on.
        refused: Calls that were refused.
    """

    client: str
    service: str
    passed: int
    refused: int


def usage_query(since: str, client: str = "") -> str:
    """The question, in PromQL.

    Exact where a counter has only grown: what it is now, less what it was then, or all of it where it was not there.
    `increase` would leave out a counter's first value, and guesses at the edges; it is asked where a gate started anew.

    Args:
        since: How far back, as Prometheus writes it: `24h`.
        client: Of this one and its users alone.
    """
    quoted = client.replace("\\", "\\\\").replace('"', '\\"')
    which = f'{METRIC}{{client=~"{quoted}(~.*)?"}}' if client else METRIC
    last = f"last_over_time({which}[{since}])"
    grown = f"(({last} - ({which} offset {since})) or {last})"
    started_anew = f"resets({which}[{since}]) > 0"
    counted = f"(({grown} unless ({started_anew})) or (increase({which}[{since}]) and ({started_anew})))"
    return f"round(sum by (client, service, outcome) ({counted}))"


def read_usage(url: str, since: str, client: str = "") -> list[Used]:
    """What Prometheus says, whoever used most first.

    Raises:
        PrometheusFailed: It did not tell.
    """
    asked = {"query": usage_query(since, client)}
    with asking("Prometheus", url, PrometheusFailed):
        answer = httpx.post(f"{url.rstrip('/')}/api/v1/query", data=asked, timeout=TIMEOUT_S, trust_env=False)
        said = answer.json()
        if said["status"] != "success":
            raise PrometheusFailed(f"Prometheus at {url} refuses the question: {said.get('error', answer.status_code)}")
        return used(said["data"]["result"])


def used(results: Iterable[Mapping[str, Any]]) -> list[Used]:
    """The rows of Prometheus's answer, one for each client and service with a call."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for one in results:
        labels = one["metric"]
        row = counts.setdefault((labels.get("client", ""), labels.get("service", "")), {})
        row[labels.get("outcome", "")] = round(float(one["value"][1]))
    rows = [Used(*who, row.get("passed", 0), row.get("refused", 0)) for who, row in counts.items()]
    return sorted(
        (row for row in rows if row.passed or row.refused), key=lambda row: (-row.passed - row.refused, row.client)
    )
