"""The private part of Consul's configuration, 0600: the agent's own token and the gossip key.

Consul takes neither from a file of its own, and process arguments can be read by everybody.
"""

import base64
import json
import secrets
from pathlib import Path

from .consul_acl import CONSUL, read_token, token_file
from .files import PRIVATE, write_atomically
from .layout import Layout

KEY_BYTES = 32


def private_config(layout: Layout) -> Path:
    """Where it lies."""
    return layout.consul_secrets / "agent.json"


def gossip_file(layout: Layout) -> Path:
    """Where the gossip key lies, base64."""
    return layout.consul_secrets / "gossip.key"


def new_gossip_key() -> str:
    """A key as Consul wants it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def write_gossip_key(layout: Layout, key: str) -> None:
    """Put a key in place."""
    write_atomically(gossip_file(layout), key + "\n", PRIVATE)


def write_private_config(layout: Layout) -> None:
    """Write it out of the files beside it, making a gossip key if there is none.

    Raises:
        StepFailed: a file cannot be read.
    """
    if not gossip_file(layout).exists():
        write_gossip_key(layout, new_gossip_key())
    write_atomically(private_config(layout), private_text(layout, CONSUL), PRIVATE)


def private_text(layout: Layout, role: str) -> str:
    """What it says for the agent of a role.

    Raises:
        StepFailed: a file cannot be read.
    """
    tokens = {"agent": read_token(token_file(layout, role))}
    return json.dumps({"acl": {"tokens": tokens}, "encrypt": read_token(gossip_file(layout))}) + "\n"
