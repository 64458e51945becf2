"""Three real Consul servers of the test's own on loopback, so that their leader can be lost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Self

from tests.support.consul_process import free_ports
from tests.support.gate import wait_until
from tests.support.programs import program

START_S = 60.0


class Server:
    """One of them.

    Args:
        folder: Where its data, configuration and log lie.
        name: Its node.
        serf: Its gossip port.
        others: All gossip addresses.
    """

    def __init__(self, folder: Path, name: str, serf: int, others: list[str]) -> None:
        folder.mkdir()
        http, server = free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        self.address = f"127.0.0.1:{server}"
        self._folder = folder
        ports = {"http": http, "server": server, "serf_lan": serf, "serf_wan": -1, "dns": -1, "grpc": -1,
                 "grpc_tls": -1}  # fmt: skip
        config = {
            "server": True,
            "bootstrap_expect": 3,
            "node_name": name,
            "bind_addr": "127.0.0.1",
            "data_dir": str(folder / "data"),
            "retry_join": others,
            "retry_interval": "1s",
            "ports": ports,
            "session_ttl_min": "1s",
            "performance": {"raft_multiplier": 1},
            "log_level": "warn",
        }
        (folder / "consul.json").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait."""
        with (self._folder / "consul.log").open("ab") as log:
            command = [program("consul"), "agent", "-config-file", str(self._folder / "consul.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self._process
        self._process.send_signal(number)

    def leader(self) -> str:
        """Whom it takes for the leader, "" for nobody."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/status/leader", timeout=2) as answer:
                return str(json.load(answer))
        except (OSError, ValueError):
            return ""


class ConsulCluster:
    """Three servers; everything else speaks to one that does not lead, as to a local agent.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        serfs = free_ports(3)
        others = [f"127.0.0.1:{serf}" for serf in serfs]
        self._servers = [Server(folder / f"s{n}", f"s{n}", serf, others) for n, serf in enumerate(serfs, 1)]
        self.url = ""

    def __enter__(self) -> Self:
        for server in self._servers:
            server.start()
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
                server.start()

    def kill(self) -> None:
        """Kill all."""
        for server in self._servers:
            server.kill()

    def freeze(self) -> None:
        """Let the one that is spoken to answer nothing any more."""
        self._mine.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._mine.send(signal.SIGCONT)

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
