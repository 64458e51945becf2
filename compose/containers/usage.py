"""What each container of the project uses, as metrics under cAdvisor's names.

It looks by itself, one look after another, and tells whoever asks what it saw last: forty containers take a busy engine
longer than Prometheus waits, and looks for askers who have gone would heap up. All that can be asked of it is
`GET /metrics`: nothing of a request reaches the engine.
``python -m compose.containers.usage`` reads MCP_PROJECT and MCP_ENGINE_SOCKET.

Source: cAdvisor, "Prometheus metrics".
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compose.containers.bandwidth import bound_of
from compose.containers.engine import SERVICE, TOGETHER, Engine
from compose.local.log import log

PORT = 9100
LABELS = ("name", "container_label_com_docker_compose_service")
BOUND = "bandwidth"
EVERY_S = 5.0
OLD_S = 30.0
"""What was seen longer ago is not told any more."""
Stats = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """One metric: its name and help, and how it is read of what the engine says."""

    name: str
    told: str
    read: Callable[[Stats], float | None]
    counts: bool = False


def _at(*path: str, scale: float = 1.0) -> Callable[[Stats], float | None]:
    """Read a number by its path; None where there is none, as of a container that is just ending."""

    def read(stats: Stats) -> float | None:
        found: Any = stats
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found * scale if isinstance(found, int | float) else None

    return read


def working_set(stats: Stats) -> float | None:
    """Memory that cannot be given back at once, in bytes: all that is used but inactive pages of files."""
    used = _at("memory_stats", "usage")(stats)
    if used is None:
        return None
    details = stats["memory_stats"].get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))  # cgroup v1, v2
    return max(0.0, used - float(inactive))


def _network(direction: str) -> Callable[[Stats], float | None]:
    def read(stats: Stats) -> float | None:
        links = stats.get("networks") or {}
        return float(sum(link.get(f"{direction}_bytes", 0) for link in links.values())) if links else None

    return read


KNOWN = (
    Known("container_cpu_usage_seconds", "Processor time used",
          _at("cpu_stats", "cpu_usage", "total_usage", scale=1e-9), counts=True),
    Known("container_cpu_cfs_periods", "Periods in which it wanted processors",
          _at("cpu_stats", "throttling_data", "periods"), counts=True),
    Known("container_cpu_cfs_throttled_periods", "Periods in which its limit of processors stopped it",
          _at("cpu_stats", "throttling_data", "throttled_periods"), counts=True),
    Known("container_memory_usage_bytes", "Memory used, page cache among it", _at("memory_stats", "usage")),
    Known("container_memory_working_set_bytes", "Memory used that cannot be given back at once", working_set),
    Known("container_spec_memory_limit_bytes", "Its limit of memory", _at("memory_stats", "limit")),
    Known("container_threads", "Processes and threads", _at("pids_stats", "current")),
    Known("container_threads_max", "Its limit of processes and threads", _at("pids_stats", "limit")),
    Known("container_network_receive_bytes", "Received over all its networks", _network("rx"), counts=True),
    Known("container_network_transmit_bytes", "Sent over all its networks", _network("tx"), counts=True),
    Known("tekup_container_bandwidth_bytes_per_second", "What each of its links may send", _at(BOUND)),
)  # fmt: skip


def look(engine: Engine) -> list[tuple[tuple[str, str], Stats]]:
    """Name and service of each running container, and what it uses.

    Raises:
        httpx.HTTPError: The engine does not answer.
    """
    found = engine.running()
    with ThreadPoolExecutor(TOGETHER) as together:
        used = together.map(engine.stats, (one["Id"] for one in found))
        return [
            ((one["Names"][0].lstrip("/"), one["Labels"].get(SERVICE, "")), {**stats, BOUND: bound_of(one["Labels"])})
            for one, stats in zip(found, used, strict=True)
        ]


def families(looks: Iterable[tuple[tuple[str, str], Stats]]) -> Iterator[Metric]:
    """The metrics of one look.

    Args:
        looks: Name and service, and what the engine says, of each container.
    """
    seen = list(looks)
    for known in KNOWN:
        kind = CounterMetricFamily if known.counts else GaugeMetricFamily
        family = kind(known.name, known.told, labels=LABELS)
        for labels, stats in seen:
            if (value := known.read(stats)) is not None:
                family.add_metric(labels, value)
        yield family


class Usage(Collector):
    """What was seen at the last look."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: tuple[float, list[tuple[tuple[str, str], Stats]]] | None = None
        self._problem = ""

    def look(self) -> None:
        """Look now; that the engine does not answer is logged once."""
        try:
            seen = look(self._engine)
        except (httpx.HTTPError, OSError, KeyError, ValueError) as error:
            self._seen = None
            self._say(f"{type(error).__name__} {error}".strip())
            return
        self._seen = time.monotonic(), seen
        self._say("")

    def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            began_s = time.monotonic()
            self.look()
            time.sleep(max(0.0, began_s + EVERY_S - time.monotonic()))

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What was seen last; nothing while the engine does not answer."""
        up = GaugeMetricFamily("tekup_engine_up", "Whether the engine told what containers use")
        at_s, looks = self._seen or (0.0, [])
        known = self._seen is not None and time.monotonic() - at_s < OLD_S
        up.add_metric([], known)
        yield up
        if known:
            yield from families(looks)

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log("engine does not tell what containers use" if problem else "engine tells again", problem=problem)
        self._problem = problem


def main() -> None:
    """Serve until a signal ends this process."""
    registry = CollectorRegistry()
    with Engine(os.environ.get("MCP_ENGINE_SOCKET", "/run/engine.sock"), os.environ["MCP_PROJECT"]) as engine:
        usage = Usage(engine)
        usage.look()
        registry.register(usage)
        threading.Thread(target=usage.watch, daemon=True).start()
        server, thread = start_http_server(PORT, registry=registry)
        log("serving", port=PORT)
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
