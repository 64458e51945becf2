"""Files are the buffer of log lines: what a dead Loki does not take is read later, with memory and disk bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gate import wait_until
from tests.support.on_call import OnCall

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]

LINES, QUEUE_BYTES = 10_000, 60_000
WAIT_S = 60.0
# JSON instead of protobuf, for a Loki that is a page of Python; a queue that is soon full.
INSTEAD = {
    "compression: gzip": "compression: none\n    encoding: json",
    "queue_size: 33554432\n      block_on_overflow": f"queue_size: {QUEUE_BYTES}\n      block_on_overflow",
    "min_size: 262144, max_size: 1048576": "min_size: 20000, max_size: 40000",
}


class Taker:
    """Stands in for Loki; refuses until told to take."""

    def __init__(self) -> None:
        self.takes = False
        self.asked = 0
        self.lines: list[str] = []
        taker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                taker.asked += 1
                if taker.takes:
                    taker.lines.extend(bodies(body))
                self.send_response(200 if taker.takes else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def bodies(request: dict[str, Any]) -> Iterator[str]:
    for resource in request["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            yield from (record["body"]["stringValue"] for record in scope["logRecords"])


@pytest.fixture
def taker() -> Iterator[Taker]:
    made = Taker()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.feature("D2")
def test_a_flood_while_loki_is_dead_waits_in_its_file_and_arrives_once_later(tmp_path: Path, taker: Taker) -> None:
    url = f"http://127.0.0.1:{taker.server.server_port}"
    written = [json.dumps({"event": "call", "number": number, "pad": "x" * 100}) for number in range(LINES)]
    with OnCall(tmp_path, "collector", instead={**INSTEAD, "http://127.0.0.1:9/otlp": f"{url}/otlp"}) as running:
        (running.logs / "search-0.1.0-1.log").write_text("".join(f"{line}\n" for line in written))
        metrics = f"{running.parts.url('collector-metrics')}/metrics"

        def waiting_bytes() -> float:
            lines = httpx.get(metrics, trust_env=False).text.splitlines()
            return max(float(line.split()[1]) for line in lines if line.startswith("otelcol_exporter_queue_size"))

        wait_until(lambda: taker.asked >= 2 and waiting_bytes() > QUEUE_BYTES / 2, "a full queue", WAIT_S)
        assert waiting_bytes() <= QUEUE_BYTES
        assert running.end("collector") == 0
        running.start("collector")
        running.until_ready("collector")
        taker.takes = True
        wait_until(lambda: len(taker.lines) >= LINES, "all lines", WAIT_S)
    assert sorted(taker.lines) == sorted(written)
