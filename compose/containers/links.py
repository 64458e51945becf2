"""Bounds what containers send: `tbf` at their own end of each link, whenever one starts.

Docker has no such limit. ``python -m compose.containers.links`` reads MCP_PROJECT and MCP_ENGINE_SOCKET, needs the
machine's processes in sight and CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_NET_ADMIN, and has no network: nobody can ask it
anything. A container may be without its bound for the moment between its start and the engine's word of it.

Source: tc-tbf(8); network_namespaces(7).
"""

from __future__ import annotations

import os
import time

import httpx
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from compose.containers.bandwidth import LABEL, bytes_per_second
from compose.containers.engine import About, Engine
from compose.local.log import log

__all__ = ["bound_links", "keep", "main"]

AGAIN_S = 2.0
LATENCY = "50ms"
"""How long what is too much may wait before it is dropped."""
BURST_S = 0.01
LEAST_BURST = 128 << 10
"""Bytes; two of the largest packets a container hands down at once."""


def bound_links(process: int, rate: int) -> list[str]:
    """Bound each link of a process's network; those it has stay up, and what is bound already is bound anew.

    Args:
        process: Its number on this machine.
        rate: Bytes per second.

    Returns:
        The links' names.

    Raises:
        OSError: The process has ended, or this one may not enter its network.
        NetlinkError: The kernel refuses, such as one without `tbf`.
    """
    burst = max(LEAST_BURST, int(rate * BURST_S))
    bound = []
    entered = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with IPRoute(netns=entered, flags=0) as network:
            for link in network.get_links():
                if (name := link.get("ifname")) != "lo":
                    network.tc(
                        "replace", "tbf", index=link["index"], handle="1:", rate=rate, latency=LATENCY, burst=burst
                    )
                    bound.append(str(name))
    finally:
        os.close(entered)
    return bound


class Keeper:
    """Bounds what is not bound yet; remembers by a container's first process, which is another after each start."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._done: set[tuple[str, int]] = set()

    def look(self) -> None:
        """Bound the links of all running containers that have a bound.

        Raises:
            httpx.HTTPError: The engine does not answer.
        """
        found = {(one["Id"], self._engine.process(one["Id"])): one for one in self._engine.running(LABEL)}
        self._done &= set(found)
        for key, one in found.items():
            if key not in self._done and key[1] and self._bound(key[1], one):
                self._done.add(key)

    def _bound(self, process: int, container: About) -> bool:
        name = container["Names"][0].lstrip("/")
        try:
            links = bound_links(process, bytes_per_second(container["Labels"][LABEL]))
        except FileNotFoundError:
            return False  # it has ended in between
        except (OSError, ValueError, NetlinkError) as error:
            log("links are not bounded", container=name, problem=f"{type(error).__name__} {error}")
            return False
        log("links are bounded", container=name, links=links, rate=container["Labels"][LABEL])
        return True


def keep(engine: Engine) -> None:
    """Bound links until a signal ends this process, whether the engine answers or not."""
    keeper = Keeper(engine)
    while True:
        try:
            for _ in engine.starts():
                keeper.look()
        except httpx.HTTPError as error:
            log("engine does not answer", problem=f"{type(error).__name__} {error}".strip())
        time.sleep(AGAIN_S)


def main() -> None:
    """Serve the project."""
    with Engine(os.environ.get("MCP_ENGINE_SOCKET", "/run/engine.sock"), os.environ["MCP_PROJECT"]) as engine:
        keep(engine)


if __name__ == "__main__":
    main()
