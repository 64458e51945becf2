"""The private part of Consul's configuration, 0600: the agent's own token and the gossip key.

Consul takes neither from a file of its own, and process arguments can be read by everybody.
"""

import base64
import json
import secrets
import uuid
from pathlib import Path

from .consul_acl import CONSUL, read_token, token_file
from .files import PRIVATE, write_atomically
from .layout import Layout

KEY_BYTES = 32
NODE_ID = "node-id"
NODES = uuid.UUID("2f6b7d0e-5a55-4d7c-9a0e-6e2f0c1b7a43")
"""What ids of nodes are derived within."""


def private_config(layout: Layout) -> Path:
    """Where it lies."""
    return layout.consul_secrets / "agent.json"


def node_id(node: str) -> str:
    """The id of a node of a name, always the same."""
    return str(uuid.uuid5(NODES, node))


def give_node_id(data: Path, node: str) -> None:
    """Let a Consul without data have the id of its name, so that a catalog that knew it takes it for the same.

    With an id of Consul's own making it would be a stranger who has a node's name, and nothing that it registers
    would show (Consul: "Node name ... is reserved by node ..."). An id that is there stays.

    Args:
        data: Its data directory.
        node: Its name.
    """
    data.mkdir(parents=True, exist_ok=True)
    if not (data / NODE_ID).exists():
        write_atomically(data / NODE_ID, node_id(node), PRIVATE)


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
