"""What decides what runs in an environment: where it lies, its settings, ports and programs."""

from collections.abc import Mapping
from dataclasses import dataclass

from .layout import Layout
from .ports import HOST
from .programs import Found
from .settings import Effective

GATEWAY_PORT = "MCP_GATEWAY_PORT"


@dataclass(frozen=True)
class Parts:
    """All that decides what runs."""

    layout: Layout
    effective: Effective
    ports: Mapping[str, int]
    programs: Mapping[str, Found]

    def url(self, name: str) -> str:
        """The base URL of a named port."""
        encrypted = name == GATEWAY_PORT and self.effective.settings.tls != "off"
        return f"{'https' if encrypted else 'http'}://{self.address(name)}"

    def address(self, name: str) -> str:
        """Host and port of a named port."""
        return f"{HOST}:{self.ports[name]}"
