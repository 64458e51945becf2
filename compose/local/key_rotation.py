"""New keys for the gate's MAC and for each service: accepted everywhere, then used, the old ones kept as previous.

The same keys lie in two places (docs/contracts.md, "The gate's folder"): all of them beside the gate, each service's
beside its instances. Who checks a value must know a key before anybody signs with it, so each place is written twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from .credentials import KEY_BYTES, GateSecrets, gate_secrets_file, read_gate_secrets, service_secrets, write_if_other
from .files import PRIVATE, write_atomically
from .layout import Layout
from .ports import HOST, remembered_ports
from .taken_up import Users

CALL_S = 3.0
Until = Callable[[Callable[[], list[str]], str], None]


def rotate_keys(layout: Layout, users: Callable[[], Users], until: Until) -> int:
    """Rotate all of them.

    Args:
        layout: the environment.
        users: who uses them, asked anew each time.
        until: waits until a function names nobody any more.

    Returns:
        How many keys are new.

    Raises:
        StepFailed: the file of secrets is damaged.
        WaitedTooLong: somebody does not take the new ones up; both are good.
    """
    known = read_gate_secrets(gate_secrets_file(layout))
    new = GateSecrets(mac=[_key()], services={name: [_key()] for name in known.services})
    # one more that is accepted, the old one still in use
    _write(layout, _merged(known, new, first=False), users, until)
    # the new one in use
    _write(layout, _merged(known, new, first=True), users, until)
    return 1 + len(new.services)


def _merged(known: GateSecrets, new: GateSecrets, *, first: bool) -> GateSecrets:
    def both(old: list[str], made: list[str]) -> list[str]:
        # while it is going on, the one before may still be somebody's current: an earlier run was ended half-way
        return [*made, old[0]] if first else [old[0], *made, *old[1:2]]

    services = {name: both(keys, new.services[name]) for name, keys in known.services.items()}
    return GateSecrets(mac=both(known.mac, new.mac), services=services)


def _write(layout: Layout, keys: GateSecrets, users: Callable[[], Users], until: Until) -> None:
    write_atomically(gate_secrets_file(layout), keys.model_dump_json(indent=1) + "\n", PRIVATE)
    # the gate first: instances must not sign handles that it does not know
    until(lambda: _gate_behind(layout), "gate")
    for service, values in keys.services.items():
        write_if_other(service_secrets(layout, service), json.dumps({"service": service, "keys": values}) + "\n")
    for service in keys.services:
        path = service_secrets(layout, service)
        until(partial(_behind, users, service, path), service)


def _behind(users: Callable[[], Users], service: str, path: Path) -> list[str]:
    return users().behind_with_keys(service, path)


def _gate_behind(layout: Layout) -> list[str]:
    """The gate, unless the file as it lies there is what it has in force; a proof is no way to ask with mutual TLS."""
    url = f"http://{HOST}:{remembered_ports(layout.ports)['MCP_PRIVATE_PORT']}/tekup/state"
    want = hashlib.sha256(gate_secrets_file(layout).read_bytes()).hexdigest()
    try:
        state = httpx.get(url, timeout=CALL_S, trust_env=False).raise_for_status().json()
        return [] if state["secrets"]["sha256"] == want else ["traefik"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return ["traefik"]


def _key() -> str:
    return secrets.token_hex(KEY_BYTES)
