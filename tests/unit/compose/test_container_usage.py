"""What containers use: from the engine's words to metrics, over a socket that answers as Docker's engine does."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from compose.containers.engine import Engine
from compose.containers.usage import Usage, working_set

STATS = {
    "cpu_stats": {
        "cpu_usage": {"total_usage": 2_500_000_000},
        "throttling_data": {"periods": 9, "throttled_periods": 4},
    },
    "memory_stats": {"usage": 900, "limit": 1000, "stats": {"total_inactive_file": 300}},
    "pids_stats": {"current": 7, "limit": 64},
    "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 1}, "eth1": {"rx_bytes": 6, "tx_bytes": 2}},
}
FOUND = [
    {"Id": "aa", "Names": ["/p-mcp-hub-1"], "Labels": {"com.docker.compose.service": "mcp-hub"}},
    {"Id": "bb", "Names": ["/p-ended-1"], "Labels": {"com.docker.compose.service": "ended"}},
]


class Answers(BaseHTTPRequestHandler):
    """Two containers, of which one has just ended."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = urlsplit(self.path).path
        known: dict[str, Any] = {"/v1.41/containers/json": FOUND, "/v1.41/containers/aa/stats": STATS}
        body = json.dumps(known.get(path, {"message": "no such container"})).encode()
        self.send_response(200 if path in known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """The socket of something that answers as an engine."""
    path = str(tmp_path / "engine.sock")
    Answers.asked.clear()
    with Server(path, Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


def shown(socket: str) -> str:
    registry = CollectorRegistry()
    with Engine(socket, "p") as engine:
        usage = Usage(engine)
        usage.look()
        registry.register(usage)
        return generate_latest(registry).decode()


@pytest.mark.feature("D3")
def test_what_a_container_uses_is_told_with_its_name_and_service(engine: str) -> None:
    said = shown(engine)
    labels = '{container_label_com_docker_compose_service="mcp-hub",name="p-mcp-hub-1"}'
    for line in (
        f"container_cpu_usage_seconds_total{labels} 2.5",
        f"container_cpu_cfs_throttled_periods_total{labels} 4.0",
        f"container_memory_working_set_bytes{labels} 600.0",
        f"container_spec_memory_limit_bytes{labels} 1000.0",
        f"container_threads{labels} 7.0",
        f"container_threads_max{labels} 64.0",
        f"container_network_receive_bytes_total{labels} 11.0",
        f"container_network_transmit_bytes_total{labels} 3.0",
        "tekup_engine_up 1.0",
    ):
        assert line in said
    assert "p-ended-1" not in said, "it had no numbers any more"


def test_only_the_project_s_containers_are_asked_for_and_only_two_things_are_asked(engine: str) -> None:
    shown(engine)
    first = urlsplit(Answers.asked[0])
    assert json.loads(parse_qs(first.query)["filters"][0]) == {"label": ["com.docker.compose.project=p"]}
    assert {urlsplit(path).path.rpartition("/")[2] for path in Answers.asked} == {"json", "stats"}


# httpcore leaves the socket that could not connect to be collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_does_not_answer_is_told_and_leaves_no_numbers(tmp_path: Path) -> None:
    said = shown(str(tmp_path / "nobody.sock"))
    assert "tekup_engine_up 0.0" in said
    assert "container_" not in said


def test_who_asks_is_told_what_was_seen_last_and_costs_the_engine_nothing(engine: str) -> None:
    registry = CollectorRegistry()
    with Engine(engine, "p") as asked:
        usage = Usage(asked)
        registry.register(usage)
        assert "tekup_engine_up 0.0" in generate_latest(registry).decode(), "it has not looked yet"
        usage.look()
        looks = len(Answers.asked)
        said = [generate_latest(registry).decode() for _ in range(3)]
    assert len(Answers.asked) == looks
    assert all("container_threads_max" in one for one in said)


@pytest.mark.parametrize(
    ("memory", "bytes_"),
    [
        ({"usage": 900, "stats": {"inactive_file": 300}}, 600.0),
        ({"usage": 900}, 900.0),
        ({"usage": 100, "stats": {"inactive_file": 300}}, 0.0),
        ({}, None),
    ],
)
def test_the_working_set_leaves_out_pages_that_can_be_given_back(memory: dict[str, Any], bytes_: float | None) -> None:
    assert working_set({"memory_stats": memory}) == bytes_
