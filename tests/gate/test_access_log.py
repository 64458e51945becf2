"""The gate's access log: one line per call, who and what and its trace, and nothing that opens anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.gate.conftest import BACKENDS, ROUTES, furnish
from tests.support.gate import KEYS, SECRETS, Gate, Maker, close, lay_out
from tests.support.ports import free_port

pytestmark = [pytest.mark.local, pytest.mark.feature("D2")]
STABLE, MIRROR = "alpha_1-0-0", "alpha_1-1-0"
COPIED = f"{STABLE}~{MIRROR}"
NAMES = {
    "ClientHost", "DownstreamStatus", "Duration", "OriginDuration", "OriginStatus", "RequestMethod", "RequestPath",
    "RetryAttempts", "ServiceAddr", "SpanId", "StartUTC", "TraceId", "entryPointName", "level", "msg", "time",
    "request_Mcp-Method", "request_Mcp-Name", "request_X-Tekup-Client", "request_X-Tekup-Route",
    "request_X-Tekup-Service",
}  # fmt: skip


def started(folder: Path, *, traced: bool) -> Gate:
    """A gate in its usual world; its traces go to a port where nobody listens."""
    gate = lay_out(folder)
    static = gate.folder / "traefik.yml"
    text = re.sub(r"^tracing:.*\n", "", static.read_text(), flags=re.MULTILINE)
    to = f"tracing: {{serviceName: traefik, otlp: {{grpc: {{endpoint: '127.0.0.1:{free_port()}', insecure: true}}}}}}\n"
    static.write_text(text + (to if traced else ""))
    gate.write("tables/secrets.json", json.dumps(SECRETS))
    for name in BACKENDS:
        gate.backend(name)
    gate.start()
    gate.routes(ROUTES, (COPIED,))
    furnish(gate)
    return gate


def access_lines(gate: Gate) -> list[dict[str, Any]]:
    """What it wrote of calls, once it is stopped."""
    assert gate.process
    gate.process.terminate()  # it writes the lines that it still has
    gate.process.wait(30)
    lines = [
        json.loads(line) for line in (gate.folder / "traefik.log").read_text().splitlines() if line.startswith("{")
    ]
    return [line for line in lines if "DownstreamStatus" in line]


def copy_everything(gate: Gate, make: Maker) -> None:
    rule = {"name": "shadow", "tools": [], "cohort": "", "lanes": [{"target": COPIED, "weight_pct": 100}]}
    rest = {"beta": {"beta_1-0-0": 100.0}, "hub": {"hub_1-0-0": 100.0}}
    gate.services({"alpha": {STABLE: 100.0}, **rest}, {}, alpha={"rules": [rule]})
    gate.in_force()


def test_a_call_has_one_line_and_the_hubs_hop_probes_and_copies_are_told_apart(tmp_path: Path) -> None:
    make, gate = Maker(), started(tmp_path / "gate", traced=True)
    copy_everything(gate, make)
    try:
        before = gate.seen("aaaaa3")["copy"]
        for _ in range(5):
            assert gate.call("/mcp?api_key=in-the-query", make.modern("tools/call", "alpha_read")).status == 200
        make.wait(lambda: gate.seen("aaaaa3")["copy"] == before + 5, "the copies to come")
        grant = make.grant("dev", ["*"])
        hop = make.modern("tools/call", "beta_read") | make.proof("hub") | {"X-Tekup-Grant": grant}
        probe = make.modern("tools/call", "beta_read") | make.proof("control-plane")
        for headers in (hop, probe):
            headers.pop("Authorization")
            assert gate.call("/beta/mcp", headers, to=gate.internal).status == 200
        refused = make.modern("tools/call", "alpha_read") | {"Authorization": "Bearer tk_nobody_" + "0" * 48}
        assert gate.call("/mcp", refused).status == 401
        lines = access_lines(gate)
    finally:
        close(gate)
    assert Counter(line["entryPointName"] for line in lines) == {"public": 6, "internal": 2}
    assert {name for line in lines for name in line} <= NAMES
    calls = [line for line in lines if line["entryPointName"] == "public" and line["DownstreamStatus"] == 200]
    for line in calls:
        said = {name: line[f"request_{name}"] for name in ("X-Tekup-Client", "X-Tekup-Service", "Mcp-Name")}
        assert said == {"X-Tekup-Client": "dev", "X-Tekup-Service": "alpha", "Mcp-Name": "alpha_read"}
        assert line["RequestPath"] in ("/mcp", "/mcp?api_key=REDACTED")
        assert re.fullmatch("[0-9a-f]{32}", line["TraceId"])
        assert re.fullmatch("[0-9a-f]{16}", line["SpanId"])
    assert len({line["TraceId"] for line in calls}) == 5
    internal = [line["request_X-Tekup-Client"] for line in lines if line["entryPointName"] == "internal"]
    assert internal[0] == "dev"
    assert internal[1] != "dev"
    everything = json.dumps(lines)
    secrets = [key.rsplit("_", 1)[1] for key in KEYS.values()] + [grant, grant.split(".")[1], "0" * 48, "in-the-query"]
    assert not [
        secret for secret in (*secrets, *make.proof("hub").values()) if secret in everything and len(secret) > 8
    ]


def test_the_trace_in_the_line_is_the_one_the_instance_is_told_of(tmp_path: Path) -> None:
    make, gate = Maker(), started(tmp_path / "gate", traced=True)
    try:
        told = gate.call("/mcp", make.modern("tools/call", "beta_read")).headers["traceparent"]
        theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        joined = gate.call("/mcp", make.modern("tools/call", "beta_read") | {"Traceparent": theirs}).headers[
            "traceparent"
        ]
        lines = access_lines(gate)
    finally:
        close(gate)
    assert [line["TraceId"] for line in lines] == [told.split("-")[1], joined.split("-")[1]]


def test_without_traces_the_line_has_none(tmp_path: Path) -> None:
    make, gate = Maker(), started(tmp_path / "gate", traced=False)
    try:
        assert gate.call("/mcp", make.modern("tools/call", "beta_read")).status == 200
        (line,) = access_lines(gate)
    finally:
        close(gate)
    assert "TraceId" not in line
    assert line["request_X-Tekup-Client"] == "dev"
