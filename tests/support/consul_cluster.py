"""Three real Consul servers of the test's own on loopback, so that their leader can be lost."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Self

from compose.local.consul_config import give_node_id
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until
from tests.support.ports import free_ports

START_S = 60.0


class Server(ConsulProcess):
    """One of them.

    Args:
        folder: Where its data, configuration and log lie.
        name: Its node's name.
        serf: Its gossip port.
        others: All servers' gossip addresses.
    """

    def __init__(self, folder: Path, name: str, serf: int, others: list[str]) -> None:
        self._name = name
        together = {"bootstrap_expect": 3, "node_name": name, "retry_join": others, "retry_interval": "1s"}
        super().__init__(folder, serf=serf, **together)

    def launch(self) -> None:
        """Start as the environments do, and do not wait."""
        give_node_id(self.data, self._name)
        super().launch()

    def leader(self) -> str:
        """Whom it takes for the leader, "" for nobody."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/status/leader", timeout=2) as answer:
                return str(json.load(answer))
        except (OSError, ValueError):
            return ""


def _server(folder: Path, name: str, serf: int, others: list[str]) -> Server:
    (folder / name).mkdir(exist_ok=True)
    return Server(folder / name, name, serf, others)


class ConsulCluster:
    """Three servers; everything else speaks to one that does not lead, as to a local agent.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        serfs = free_ports(3)
        others = [f"127.0.0.1:{serf}" for serf in serfs]
        self._servers = [_server(folder, f"s{n}", serf, others) for n, serf in enumerate(serfs, 1)]
        self.url = ""

    def __enter__(self) -> Self:
        for server in self._servers:
            server.launch()
        wait_until(lambda: all(server.leader() for server in self._servers), "a leader of three servers", START_S)
        self.url = next(server.url for server in self._servers if server.address != server.leader())
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start those that do not run."""
        for server in self._servers:
            if not server.leader():
                server.kill()
                server.launch()

    def kill(self) -> None:
        """Kill all."""
        for server in self._servers:
            server.kill()

    def freeze(self) -> None:
        """Let the one that is spoken to answer nothing any more."""
        self._mine.freeze()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._mine.thaw()

    @property
    def _mine(self) -> Server:
        return next(server for server in self._servers if server.url == self.url)

    def lose_leader(self) -> float:
        """Kill the leader, and wait until the others have another.

        Returns:
            Seconds without one.
        """
        mine = self._mine
        was = mine.leader()
        next(server for server in self._servers if server.address == was).kill()
        began_s = time.monotonic()
        wait_until(lambda: mine.leader() not in ("", was), "another leader of Consul", START_S)
        return time.monotonic() - began_s
