"""What decides what runs in an environment: where it lies, its settings, ports and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .consul_acl import token_file
from .layout import Layout
from .log_source import LogSource, of_processes
from .ports import HOST
from .programs import Found
from .settings import Effective

GATEWAY_PORT, OPERATORS_PORT = "MCP_GATEWAY_PORT", "MCP_OPERATORS_PORT"


@dataclass(frozen=True)
class ConsulServers:
    """Consul's servers, as Prometheus reaches them."""

    addresses: tuple[str, ...]
    scheme: str = "http"
    ca_file: str = ""
    """Whom to trust, for `https`."""


@dataclass(frozen=True)
class Parts:
    """All that decides what runs."""

    layout: Layout
    effective: Effective
    ports: Mapping[str, int]
    programs: Mapping[str, Found]

    def url(self, name: str) -> str:
        """The base URL of a named port."""
        encrypted = name in (GATEWAY_PORT, OPERATORS_PORT) and self.effective.settings.tls != "off"
        return f"{'https' if encrypted else 'http'}://{self.address(name)}"

    def address(self, name: str) -> str:
        """Host and port of a named port."""
        return f"{HOST}:{self.ports[name]}"

    def listening(self, name: str) -> str:
        """Where the owner of a named port listens, host and port."""
        return self.address(name)

    def files_of(self, program: str) -> Path:
        """Where a program of the on-call stack finds the files it is given."""
        return self.layout.folder_of(program)

    def data_of(self, program: str) -> Path:
        """Where a program of the on-call stack keeps what is its own."""
        return self.layout.folder_of(program) / "data"

    def token_of(self, role: str) -> Path:
        """Where whoever has a role in Consul finds its token."""
        return token_file(self.layout, role)

    def usage(self) -> str:
        """Who tells what containers use, host and port; nobody of local processes."""
        return ""

    def log_source(self) -> LogSource:
        """Where the collector reads log lines."""
        return of_processes(self.layout.logs)

    def consul_servers(self) -> ConsulServers:
        """Where metrics of Consul are fetched."""
        return ConsulServers((self.address("MCP_CONSUL_PORT"),))
