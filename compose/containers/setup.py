"""Prepares an environment of containers: makes what is missing of its secrets and configuration, gives each its own.

Runs before everything else, and again at each `docker compose up`: what is there stays. A container sees only the
volume with what it was given, never the folder they come from.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from compose.local.consul_acl import CONSUL, GATE, service_role, token_file
from compose.local.consul_config import private_config
from compose.local.credentials import make_credentials, make_sealing_keys, service_secrets, write_if_other
from compose.local.errors import StepFailed
from compose.local.files import repository
from compose.local.gate_folder import lay_out_gate
from compose.local.log import log
from compose.local.platform_table import gate_values
from compose.local.served import WELCOME, WELCOME_FILE
from compose.local.settings import CONTROL_PLANE, SERVICES

from .places import GATE_FOLDER, Here

EVERYWHERE = {"client_addr": "0.0.0.0"}
"""Of Consul's configuration: with one server, only its HTTP API is others' to reach."""


def prepare(here: Here) -> None:
    """Make what is missing and give each recipient its files.

    Args:
        here: the environment.

    Raises:
        LocalError: a file is damaged, a volume is missing or may not be written; nothing that is in use was changed.
    """
    layout = here.layout
    layout.make_folders()
    make_credentials(layout)
    # Switched off as well: what was sealed before has to be opened, and Compose names the file in either case.
    make_sealing_keys(layout)
    lay_out_gate(layout.gate, {**gate_values(here), **_gate_listens(here)})
    given = _files(here)
    for recipient, files in given.items():
        _give(here.given / recipient, files)
    _welcome(here.workspace)
    log("environment prepared", env=here.effective.settings.env)


def _gate_listens(here: Here) -> dict[str, str]:
    names = {"GATEWAY_ADDRESS": "MCP_GATEWAY_PORT", "INTERNAL_ADDRESS": "MCP_INTERNAL_PORT",
             "PRIVATE_ADDRESS": "MCP_PRIVATE_PORT"}  # fmt: skip
    return {**{value: here.listening(name) for value, name in names.items()}, "GATE_DIR": str(GATE_FOLDER)}


def _files(here: Here) -> dict[str, dict[str, str]]:
    """What each recipient is given, by file name."""
    layout = here.layout
    sealing = {"sealing-keys.json": layout.sealing_keys.read_text(encoding="utf-8")}
    return {
        CONSUL: {
            "agent.json": (repository() / "consul" / "agent.json").read_text(encoding="utf-8"),
            "private.json": private_config(layout).read_text(encoding="utf-8"),
            # the last: what differs here
            "zz-container.json": json.dumps(EVERYWHERE) + "\n",
        },
        CONTROL_PLANE: {
            "consul.token": _token(here, CONTROL_PLANE),
            "operator.token": layout.operator_token.read_text(encoding="ascii"),
            "secrets.json": service_secrets(layout, CONTROL_PLANE).read_text(encoding="utf-8"),
            **sealing,
        },
        GATE: {"consul.token": _token(here, GATE), **sealing},
        **{name: _of_service(here, name) for name in SERVICES},
    }


def _of_service(here: Here, name: str) -> dict[str, str]:
    return {
        "consul.token": _token(here, service_role(name).name),
        "secrets.json": service_secrets(here.layout, name).read_text(encoding="utf-8"),
    }


def _token(here: Here, role: str) -> str:
    return token_file(here.layout, role).read_text(encoding="ascii")


def _give(folder: Path, files: Mapping[str, str]) -> None:
    """Put files into a recipient's volume, and take away what is none of them."""
    try:
        for name, text in files.items():
            write_if_other(folder / name, text)
        for stranger in [path for path in folder.iterdir() if path.is_file() and path.name not in files]:
            stranger.unlink()
    except OSError as error:
        raise StepFailed(f"{folder} cannot be written ({error.strerror}); remove its volume, `docker compose down -v`, "
                         "if an earlier version made it") from error  # fmt: skip


def _welcome(workspace: Path) -> None:
    """What the first calls look for, where there is nothing else yet."""
    if workspace.is_dir() and not any(workspace.iterdir()):
        (workspace / WELCOME_FILE).write_text(WELCOME, encoding="utf-8")
