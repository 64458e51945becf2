"""How soon a key change is verified on two gates, with one client and with 10,000 of them, each with a key."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import httpx

from control_plane.model import ClientPolicy, Key, Limit, Stored, Table
from control_plane.signed import new_key
from tests.bench.tools import Row, percentile, wait_until
from tests.support.stage import Stage, stage

MANY = 10_000
AT_ONCE = 60
WAIT_S = 60.0
TTL_S = "30"
LATE_MS = 10_000
"""How long a change is waited for; what took longer is not in force yet."""
LIMITS = (Limit(name="search", tools=("search_*",), per_s=5, burst=10), Limit(name="all", concurrent=8))


def keys(folder: Path, changes: int) -> list[Row]:
    """All of it.

    Args:
        folder: An empty folder.
        changes: How many of each kind.
    """
    rows = []
    for many in (1, MANY):
        place = folder / str(many)
        place.mkdir()
        with stage(place, MCP_SESSION_TTL_S=TTL_S) as made:
            if many > 1:
                crowd(made, 1, many)
            rows += _measured(made, many, changes)
    return rows


def _measured(made: Stage, many: int, changes: int) -> list[Row]:
    fresh: list[str] = []
    verbs: dict[str, Callable[[int], dict[str, object]]] = {
        "key made": lambda _: _made(made, fresh),
        "key revoked": lambda _: made.ask("DELETE", f"/v1/keys/{fresh.pop()}?reason=bench"),
        "client's limit set": lambda number: _limited(made, number),
    }
    rows = []
    for what, verb in verbs.items():
        took = [_ms(verb(number)) for number in range(changes)]
        late = sum(one > LATE_MS for one in took)
        said = f"p50 {percentile(took, 0.5):.0f} ms, p95 {percentile(took, 0.95):.0f} ms, slowest {max(took):.0f} ms"
        said += f" ({late} not in force in time)" if late else ""
        rows.append((f"{what}, verified on two gates, {many:,} client(s), {changes}", said))
    return rows


def _made(made: Stage, fresh: list[str]) -> dict[str, object]:
    answer = made.ask("POST", "/v1/clients/dev/keys", {"reason": "bench"})
    fresh.append(answer["id"])
    return answer


def _limited(made: Stage, number: int) -> dict[str, object]:
    return made.ask("PUT", "/v1/clients/dev/limits/bench", {"per_s": 1 + number, "reason": "bench"})


def _ms(answer: dict[str, object]) -> float:
    return float(str(answer["in_force_ms"]))


def crowd(made: Stage, there: int, to: int) -> None:
    """More clients with limits and a key each, put there by another hand and accepted.

    Args:
        made: A stage.
        there: How many clients it has.
        to: How many it has then.
    """
    clients = [ClientPolicy(id=f"c{n:05d}", limits=LIMITS) for n in range(there, to)]
    documents: list[Stored] = [*clients, *(new_key(one.id, 0, "", 0).document for one in clients)]
    for at in range(0, len(documents), AT_ONCE):
        operations = [_operation(one) for one in documents[at : at + AT_ONCE]]
        httpx.put(f"{made.consul.url}/v1/txn", json=operations, timeout=20, trust_env=False).raise_for_status()
    made.ask("POST", "/v1/repair", {"reason": "bench"})
    wait_until(lambda: settled(made), "the crowd in force on every gate", WAIT_S)


def settled(made: Stage) -> bool:
    """Whether every gate has the newest revision."""
    status = made.ask("GET", "/v1/status")
    return all(gate["revision"] == status["revision"] and not gate["problems"] for gate in status["gates"])


def _operation(one: Stored) -> dict[str, dict[str, str]]:
    table = Table.KEYS if isinstance(one, Key) else Table.CLIENTS
    value = base64.b64encode(one.to_bytes()).decode()
    return {"KV": {"Verb": "set", "Key": table.prefix + one.key, "Value": value}}
