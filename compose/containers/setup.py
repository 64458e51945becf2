"""Prepares an environment of containers: makes what is missing of its secrets and configuration, gives each its own.

Runs before everything else, and again at each `docker compose up`: what is there stays. A container sees only the
volume with what it was given, never the folder they come from.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from compose.local.alerting import BASE, LIVE, OPERATORS, rule_files
from compose.local.bridged.declared import declared, names, remove_declaration, write_declaration
from compose.local.consul_acl import GATE, KEEPER, PROMETHEUS, gate_role, service_role, token_file
from compose.local.consul_config import give_node_id
from compose.local.credentials import (
    forget_service,
    gate_secrets_file,
    make_credentials,
    make_sealing_keys,
    service_secrets,
    write_if_other,
)
from compose.local.edge import edge_values
from compose.local.errors import StepFailed
from compose.local.files import PRIVATE
from compose.local.gate_folder import lay_out_gate, lay_out_operators_gate
from compose.local.log import log
from compose.local.observability import SCRAPE_S, configuration
from compose.local.operators_entry import entry_values
from compose.local.platform_table import gate_values
from compose.local.served import WELCOME, WELCOME_FILE
from compose.local.settings import CONTROL_PLANE, SERVICES

from .edge import keeper_files, make_edge_authority, put_certificates
from .places import CONSUL_CA, GATE_FOLDER, Here, gate_id
from .registry import authority_text, consul_files, make_consul_authority

EGRESS = "egress"
"""The browser's way out; it checks by the browser's keys what the browser says of a client."""
MODES = {"collector": 0o644, KEEPER: 0o640}
"""Of the files of recipients that are another user: who is given no secret, and who is in the group of everybody."""

NO_OPERATORS = {
    "OPERATORS": "# operators have a gate of their own",
    "OPERATORS_SERVERS": "",
}
"""A gate in containers stands in the networks of all services, none of which may reach the operators' API."""


def slots(servers: Sequence[str]) -> dict[str, str]:
    """Where each server of somebody else has its volume among those of all recipients.

    A new volume takes over whose the folder is at which it is mounted first, so the image has to have that folder, and
    knows no names.
    """
    return {f"bridged-{number}": name for number, name in enumerate(servers, 1)}


def prepare(here: Here) -> None:
    """Make what is missing and give each recipient its files.

    Args:
        here: the environment.

    Raises:
        LocalError: a file is damaged, a volume is missing or may not be written; nothing that is in use was changed.
    """
    layout = here.layout
    layout.make_folders()
    _declare(here)
    make_credentials(layout, here.roles())
    # Switched off as well: what was sealed before has to be opened, and Compose names the file in either case.
    make_sealing_keys(layout)
    now = datetime.now(UTC)
    make_consul_authority(here, now)
    make_edge_authority(here, now)
    _gates(here)
    if here.operators_gate:
        edge = edge_values(here.effective.settings)
        lay_out_operators_gate(here.operators_gate, {**edge, **entry_values(here)})
    put_certificates(here, now)
    _nodes(here)
    for recipient, files in _files(here).items():
        _give(here.given / recipient, files)
    _receivers(here)
    _welcome(here.workspace)
    log("environment prepared", env=here.effective.settings.env)


def _nodes(here: Here) -> None:
    """Let each Consul have the id of its name."""
    agents = {name: agent.node for name, agent in here.agents.items()}
    for name, node in {**agents, **{server: server for server in here.servers}}.items():
        if (data := here.data / name).is_dir():
            give_node_id(data, node)


def _declare(here: Here) -> None:
    """Note which bridged servers there are, so that they have credentials; what they are stands in their images.

    One that is no longer asked for loses its own.
    """
    layout = here.layout
    asked = here.settings.servers_of_others
    for one in declared(layout):
        if one.name not in asked:
            remove_declaration(layout, one)
            forget_service(layout, one.name)
    for name in set(asked) - set(names(declared(layout))):
        write_declaration(layout, name, {}, {})


def _gates(here: Here) -> None:
    """Lay out each gate's folder; all hold the same keys."""
    values = {**gate_values(here), **_gate_listens(here), **NO_OPERATORS}
    for gate, folder in here.gates.items():
        lay_out_gate(folder, values)
        if gate != GATE:
            tables = folder / "tables"
            tables.chmod(0o700)
            write_if_other(tables / "secrets.json", gate_secrets_file(here.layout).read_text(encoding="utf-8"))


def _gate_listens(here: Here) -> dict[str, str]:
    names = {"GATEWAY_ADDRESS": "MCP_GATEWAY_PORT", "INTERNAL_ADDRESS": "MCP_INTERNAL_PORT",
             "PRIVATE_ADDRESS": "MCP_PRIVATE_PORT"}  # fmt: skip
    return {**{value: here.listening(name) for value, name in names.items()}, "GATE_DIR": str(GATE_FOLDER)}


def _files(here: Here) -> dict[str, dict[str, str]]:
    """What each recipient is given, by file name."""
    layout = here.layout
    sealing = {"sealing-keys.json": layout.sealing_keys.read_text(encoding="utf-8")}
    asked = here.effective.settings.extras
    return {
        **consul_files(here),
        CONTROL_PLANE: {
            **_of_role(here, CONTROL_PLANE),
            "operator.token": layout.operator_token.read_text(encoding="ascii"),
            "secrets.json": service_secrets(layout, CONTROL_PLANE).read_text(encoding="utf-8"),
            **sealing,
        },
        **{gate: {**_of_role(here, _agent_role(gate)), **sealing} for gate in here.gates},
        **{name: _of_service(here, name) for name in SERVICES},
        **{slot: _of_service(here, name) for slot, name in slots(here.settings.servers_of_others).items()},
        EGRESS: {"secrets.json": service_secrets(layout, "browser").read_text(encoding="utf-8")},
        **keeper_files(here),
        # Its folder is in the image too; where there is a keeper, a volume is mounted there that can be written.
        **({KEEPER: _of_role(here, KEEPER)} if os.access(here.given / KEEPER, os.W_OK) else {}),
        **{name: dict(_of_program(here, name)) for name in asked},
    }


def _agent_role(gate: str) -> str:
    return GATE if gate == GATE else gate_role(gate_id(gate)).name


def _of_service(here: Here, name: str) -> dict[str, str]:
    secrets = service_secrets(here.layout, name).read_text(encoding="utf-8")
    return {**_of_role(here, service_role(name).name), "secrets.json": secrets}


def _of_program(here: Here, name: str) -> Iterator[tuple[str, str]]:
    """What a program for who is on call is given."""
    yield from configuration(here, name).items()
    if name == "prometheus":
        yield from _of_role(here, PROMETHEUS).items()
        yield from ((f"rules/{file}", text) for file, text in rule_files(here, SCRAPE_S).items())
        yield f"rules/{OPERATORS}/.keep", ""  # where the volume of the rules that operators add is mounted


def _of_role(here: Here, role: str) -> dict[str, str]:
    """What whoever asks Consul needs."""
    token = token_file(here.layout, role).read_text(encoding="ascii")
    return {"consul.token": token, CONSUL_CA: authority_text(here)}


def _give(folder: Path, files: Mapping[str, str]) -> None:
    """Put files into a recipient's volume, and take away what is none of them."""
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_if_other(folder / name, text, MODES.get(folder.name, PRIVATE))
        known = {folder / name for name in files}
        for stranger in [path for path in folder.rglob("*") if path.is_file() and path not in known]:
            stranger.unlink()
    except OSError as error:
        raise StepFailed(f"{folder} cannot be written ({error.strerror}); remove its volume, `docker compose down -v`, "
                         "if an earlier version made it") from error  # fmt: skip


def _receivers(here: Here) -> None:
    """What Alertmanager begins with; from then on its keeper writes that (control_plane/receiver_keeper.py)."""
    own, live = here.given / "alertmanager" / BASE, here.data / "receivers" / LIVE
    if "alertmanager" in here.effective.settings.extras and live.parent.is_dir() and not live.exists():
        write_if_other(live, own.read_text(encoding="utf-8"), PRIVATE)


def _welcome(workspace: Path) -> None:
    """What the first calls look for, where there is nothing else yet."""
    if workspace.is_dir() and not any(workspace.iterdir()):
        (workspace / WELCOME_FILE).write_text(WELCOME, encoding="utf-8")
