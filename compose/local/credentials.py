"""Secrets of an environment: made once, kept in 0600 files (docs/contracts.md, "The gate's folder")."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from .bridged.declared import declared, names
from .consul_acl import ROLES, Role, make_tokens, service_role, token_file
from .consul_config import write_private_config
from .errors import StepFailed
from .files import PRIVATE, write_atomically
from .layout import Layout
from .settings import SERVICES

KEY_BYTES = 32
CONTROL_PLANE = "control-plane"


def make_credentials(layout: Layout, roles: Iterable[Role] = ROLES) -> None:
    """Make what is missing; what is there stays, so keys and handles outlive a restart.

    Args:
        layout: the environment.
        roles: who has a token of Consul's.

    Raises:
        StepFailed: the file of secrets is damaged; it is never replaced by itself.
    """
    if not layout.operator_token.exists():
        write_atomically(layout.operator_token, secrets.token_urlsafe(KEY_BYTES) + "\n", PRIVATE)
    added = names(declared(layout))
    make_tokens(layout, (*roles, *map(service_role, added)))
    write_private_config(layout)
    tables = gate_secrets_file(layout).parent
    tables.mkdir(parents=True, exist_ok=True)
    tables.chmod(0o700)
    keys = _gate_secrets(gate_secrets_file(layout), added)
    for service, values in keys.items():
        own = json.dumps({"service": service, "keys": values}) + "\n"
        write_if_other(service_secrets(layout, service), own)


def gate_secrets_file(layout: Layout) -> Path:
    """The gate's own secrets file, which holds every service's keys."""
    return layout.gate / "tables" / "secrets.json"


def make_sealing_keys(layout: Layout) -> None:
    """Make what seals the hashes of API keys in Consul; what is there stays, for nothing else opens what it sealed."""
    if not layout.sealing_keys.exists():
        keys = {"keys": [secrets.token_hex(KEY_BYTES)]}
        write_atomically(layout.sealing_keys, json.dumps(keys) + "\n", PRIVATE)


def service_secrets(layout: Layout, service: str) -> Path:
    """The secrets file of a service's instances."""
    return layout.secrets / f"{service}.json"


class GateSecrets(BaseModel):
    """`tables/secrets.json`: current key first, then the previous one."""

    mac: list[str] = Field(default_factory=list)
    services: dict[str, list[str]] = Field(default_factory=dict)


def forget_service(layout: Layout, service: str) -> None:
    """Forget the secrets of a service that was taken away."""
    path = gate_secrets_file(layout)
    known = read_gate_secrets(path)
    if known.services.pop(service, None) is not None:
        write_atomically(path, known.model_dump_json(indent=1) + "\n", PRIVATE)
    for file in (service_secrets(layout, service), token_file(layout, service_role(service).name)):
        file.unlink(missing_ok=True)


def _gate_secrets(path: Path, added: tuple[str, ...]) -> dict[str, list[str]]:
    known = read_gate_secrets(path) if path.exists() else GateSecrets()
    missing = [name for name in (*SERVICES, CONTROL_PLANE, *added) if not known.services.get(name)]
    if missing or not known.mac:
        known.mac = known.mac or [secrets.token_hex(KEY_BYTES)]
        known.services |= {name: [secrets.token_hex(KEY_BYTES)] for name in missing}
        write_atomically(path, known.model_dump_json(indent=1) + "\n", PRIVATE)
    return known.services


def read_gate_secrets(path: Path) -> GateSecrets:
    """Read the gate's secrets.

    Raises:
        StepFailed: the file cannot be read.
    """
    try:
        return GateSecrets.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        # only the kind of a validation error: its text would repeat a key
        why = error.strerror if isinstance(error, OSError) else "it is no file of secrets"
        raise StepFailed(f"{path} cannot be read ({why}); restore it, or remove it to make new secrets") from None


def write_if_other(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Write a file, private unless told otherwise, unless it says so already."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text, mode)
