"""A real Consul server of the test's own, on free ports and in a temporary folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.support.ports import free_ports
from tests.support.programs import program

START_S = 30.0


class ConsulProcess:
    """One server with a data directory, so that it can be killed and come back.

    Args:
        folder: Where its data, configuration and log lie.
        serf: Its gossip port; 0 = a free one.
        more: Settings of Consul's besides, or otherwise.
    """

    def __init__(self, folder: Path, *, serf: int = 0, **more: object) -> None:
        self._folder = folder
        self.data = folder / "data"
        http, server, gossip = free_ports(3)
        self.url = f"http://127.0.0.1:{http}"
        self.address = f"127.0.0.1:{server}"
        self._config = folder / "consul.json"
        ports = {
            "http": http,
            "server": server,
            "serf_lan": serf or gossip,
            "serf_wan": -1,
            "dns": -1,
            "grpc": -1,
            "grpc_tls": -1,
        }
        config = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "data_dir": str(self.data),
            "ports": ports,
            "session_ttl_min": "1s",
            "performance": {"raft_multiplier": 1},
            "log_level": "warn",
        }
        self._config.write_text(json.dumps(config | more))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait for a leader."""
        self.launch()
        try:
            self._wait_for_leader()
        except BaseException:
            self.kill()
            raise

    def _wait_for_leader(self) -> None:
        assert self._process
        deadline_s = time.monotonic() + START_S
        while not self._has_leader():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline_s:
                state = f"ended with {ended}" if ended is not None else f"has no leader after {START_S:.0f} s"
                log = (self._folder / "consul.log").read_text(errors="replace")
                raise AssertionError(f"Consul {state}; its last words:\n{log[-2000:]}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start and do not wait."""
        with (self._folder / "consul.log").open("ab") as log:
            command = [program("consul"), "agent", "-config-file", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop its time; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process, "Consul does not run"
        return self._process.pid

    def _signal(self, number: signal.Signals) -> None:
        assert self._process, "Consul does not run"
        self._process.send_signal(number)

    def lose_data(self) -> None:
        """Forget everything; for a server that was killed."""
        shutil.rmtree(self.data, ignore_errors=True)

    def _has_leader(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/kv/ready?keys", timeout=1):
                return True
        except urllib.error.HTTPError as error:
            return error.code in (403, 404)
        except OSError:
            return False
