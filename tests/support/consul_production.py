"""Three Consul servers as `consul/agent.prod.json` has them: TLS, gossip under a key, ACLs; on loopback."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from compose.local.consul_config import new_gossip_key
from compose.local.files import repository
from tests.support.gate import wait_until
from tests.support.ports import free_ports
from tests.support.programs import program

DATACENTER = "local"
START_S = 90.0
Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Authority:
    """A certificate authority of Consul's own making, and one server certificate by it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """A new one, by `consul tls`, as an operator makes it."""
        folder.mkdir()
        server = ("cert", "create", "-server", "-dc", DATACENTER, "-additional-ipaddress", "127.0.0.1")
        for command in (("ca", "create"), server):
            subprocess.run([program("consul"), "tls", *command], cwd=folder, check=True, capture_output=True)
        return cls(folder)

    @property
    def ca(self) -> Path:
        """Whom to trust."""
        return self.folder / "consul-agent-ca.pem"

    def files(self) -> dict[str, str]:
        """For `tls.defaults`."""
        server = f"{self.folder}/{DATACENTER}-server-consul-0"
        return {"ca_file": str(self.ca), "cert_file": f"{server}.pem", "key_file": f"{server}-key.pem"}


class ProductionServer:
    """One server; what differs from server to server, and what is secret, lies in a second file.

    Args:
        folder: Where it lies.
        authority: Its certificates.
        key: Of the gossip, "" for none.
        serf: Its gossip port.
        others: Whom it joins.
        change: Changes its second file.
    """

    def __init__(
        self, folder: Path, authority: Authority, key: str, serf: int, others: list[str], change: Change | None = None
    ) -> None:
        folder.mkdir()
        https, server = free_ports(2)
        self.url = f"https://127.0.0.1:{https}"
        self.log = folder / "consul.log"
        self._own = folder / "own.json"
        own: dict[str, Any] = {
            "node_name": folder.name,
            "datacenter": DATACENTER,
            "data_dir": str(folder / "data"),
            "bind_addr": "127.0.0.1",
            "addresses": {"https": "127.0.0.1"},
            "ports": {"https": https, "server": server, "serf_lan": serf},
            "retry_join": others,
            "retry_interval": "1s",
            "tls": {"defaults": authority.files()},
            **({"encrypt": key} if key else {}),
        }
        if change:
            change(own)
        self._own.write_text(json.dumps(own))
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start and do not wait."""
        with self.log.open("ab") as log:
            files = (repository() / "consul" / "agent.prod.json", self._own)
            command = [program("consul"), "agent", *(f"-config-file={path}" for path in files)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill at once."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def ask(self, path: str, ca: Path, token: str = "") -> httpx.Response:
        """GET something, trusting one authority alone."""
        trusted = ssl.create_default_context(cafile=ca)
        headers = {"X-Consul-Token": token} if token else {}
        return httpx.get(f"{self.url}{path}", headers=headers, verify=trusted, timeout=5, trust_env=False)

    def leader(self, ca: Path) -> str:
        """Whom it takes for the leader, "" for nobody."""
        try:
            return str(self.ask("/v1/status/leader", ca).json())
        except (httpx.HTTPError, ValueError):
            return ""


class ProductionCluster:
    """Three of them; a context manager.

    Args:
        folder: Where everything lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = Authority.make(folder / "tls")
        self.key = new_gossip_key()
        serfs = free_ports(3)
        self.joins = [f"127.0.0.1:{serf}" for serf in serfs]
        self.servers = [self._server(f"s{n}", serf) for n, serf in enumerate(serfs, 1)]
        self.guests: list[ProductionServer] = []

    def __enter__(self) -> Self:
        for server in self.servers:
            server.launch()
        ca = self.authority.ca
        wait_until(lambda: all(one.leader(ca) for one in self.servers), "a leader of three servers", START_S)
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.servers, *self.guests):
            server.kill()

    def guest(
        self, name: str, authority: Authority | None = None, key: str | None = None, change: Change | None = None
    ) -> ProductionServer:
        """One more server that wants to join, with other certificates, or another key, or none ("")."""
        (serf,) = free_ports(1)
        made = self._server(name, serf, authority, key, change)
        self.guests.append(made)
        made.launch()
        return made

    def _server(
        self,
        name: str,
        serf: int,
        authority: Authority | None = None,
        key: str | None = None,
        change: Change | None = None,
    ) -> ProductionServer:
        secret = self.key if key is None else key
        return ProductionServer(self._folder / name, authority or self.authority, secret, serf, self.joins, change)
