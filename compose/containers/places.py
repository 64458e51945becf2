"""Where everything is in an environment of containers: folders of the one-shot containers, addresses in networks."""

from collections.abc import Mapping
from pathlib import Path

from compose.local.layout import Layout
from compose.local.parts import Parts
from compose.local.settings import Effective

KEEP = "keep"
"""The volume of whoever prepares: all secrets, from which each container is given its own."""
GATE_FOLDER = Path("/gate")
"""The gate's folder, as Traefik and its agent see it."""
PAGES_URL = "http://pages:8080/"
HOSTS: Mapping[str, tuple[str, int]] = {
    "MCP_GATEWAY_PORT": ("mcp-gateway", 3000),
    "MCP_INTERNAL_PORT": ("mcp-gateway", 3005),
    "MCP_PRIVATE_PORT": ("mcp-gateway", 3006),
    "MCP_CONTROL_PLANE_PORT": ("control-plane", 3010),
    "MCP_CONSUL_PORT": ("consul", 8500),
}
"""Each named port of the platform: whose it is, and its number inside."""


class Here(Parts):
    """The parts of an environment of containers: each address is one in its networks, whatever is published outside."""

    def __init__(self, effective: Effective, root: Path = Path("/")) -> None:
        """Args:
        effective: the settings.
        root: what the volumes are mounted below.
        """
        layout = Layout(root / KEEP)
        super().__init__(layout, effective, {name: port for name, (_, port) in HOSTS.items()}, {})

    @property
    def given(self) -> Path:
        """Here a volume for each recipient is mounted, which it finds at `/run/tekup`."""
        return self.layout.directory.parent / "given"

    @property
    def workspace(self) -> Path:
        """The folder that filesystem and search work in."""
        return self.layout.directory.parent / "workspace"

    def address(self, name: str) -> str:
        """Host and port by which others reach a named port."""
        return "{}:{}".format(*HOSTS[name])

    def listening(self, name: str) -> str:
        """Where its owner listens: everywhere in its networks."""
        return f":{HOSTS[name][1]}"
