"""`tekup add`, `import`, `remove` in a running environment: somebody else's server behind the real gate."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from tests.contract.services.conftest import ROOT

pytestmark = [pytest.mark.local, pytest.mark.timeout(400)]
HOSTILE = ROOT / "tests" / "support" / "hostile_child.py"


@pytest.fixture
def pear(environment: Any) -> Iterator[Any]:
    """The environment with a server of the name `pear` added."""
    added = environment.tekup("add", "pear", "--version", "2.0", "--json", "--", sys.executable, str(HOSTILE))
    assert added.returncode == 0, added.stderr
    yield json.loads(added.stdout)
    environment.tekup("remove", "pear")


async def said(environment: Any, mode: str, tool: str, **arguments: object) -> str:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {environment.key}"}, timeout=60) as http,
        Client(streamable_http_client(f"{environment.gateway_url}/mcp", http_client=http), mode=mode) as client,
    ):
        assert tool in [one.name for one in (await client.list_tools()).tools]
        result = await client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return "".join(block.text for block in result.content if isinstance(block, TextContent))


@pytest.mark.feature("B7")
async def test_an_added_server_is_called_in_both_eras_and_leaves_nothing_when_removed(
    environment: Any, pear: dict[str, Any]
) -> None:
    assert "pear_echo" in pear["tools"]
    for mode in ("2026-07-28", "legacy"):
        assert await said(environment, mode, "pear_echo", text=mode) == mode
    child = int(await said(environment, "2026-07-28", "pear_pid"))
    daemon = int(await said(environment, "2026-07-28", "pear_daemon"))
    seen = await said(environment, "2026-07-28", "pear_environment")
    for secret in (environment.key, environment.operator_token, *environment.consul_token().values(), "MCP_"):
        assert secret not in seen
    again = environment.tekup("add", "pear", "--version", "2.0", "--", sys.executable, str(HOSTILE))
    assert again.returncode == 0, again.stderr
    assert int(await said(environment, "2026-07-28", "pear_pid")) == child
    removed = environment.tekup_json("remove", "pear")
    assert (removed["ran"], removed["left"]) == (True, [])
    assert not psutil.pid_exists(child)
    assert not psutil.pid_exists(daemon)
    assert not [one for one in environment.status().processes if one.group == "pear"]
    assert "pear" not in (environment.state / "gate" / "tables" / "secrets.json").read_text()
    assert environment.tekup("remove", "pear").returncode == 2


@pytest.mark.feature("B7")
async def test_a_new_service_is_behind_the_gate_with_no_other_file_edited(environment: Any, tmp_path: Path) -> None:
    made = environment.tekup("new-service", "notes", "--folder", str(tmp_path / "notes"), "--json")
    try:
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["tools"] == ["notes_add", "notes_list"]
        assert "buy milk" in await said(environment, "2026-07-28", "notes_add", text="buy milk")
        assert "buy milk" in await said(environment, "legacy", "notes_list")
    finally:
        assert environment.tekup("remove", "notes").returncode == 0
    assert (tmp_path / "notes" / "entries.txt").read_text() == "buy milk\n"


@pytest.mark.long
@pytest.mark.feature("A14")
def test_a_server_that_does_not_start_is_told_with_its_last_words(environment: Any) -> None:
    try:
        refused = environment.tekup("add", "plum", "--", sys.executable, str(HOSTILE), "dies-at-start")
        assert refused.returncode == 1
        assert "no configuration found" in refused.stderr
        assert "no configuration found" in environment.tekup("status").stdout
    finally:
        assert environment.tekup("remove", "plum").returncode == 0
    assert environment.tekup("status").returncode == 0


@pytest.mark.long
@pytest.mark.feature("B7")
def test_a_configuration_of_six_servers_is_imported_and_the_bad_ones_are_named(
    environment: Any, tmp_path: Path
) -> None:
    server = {"command": sys.executable, "args": [str(HOSTILE)], "env": {"A_TOKEN": "sesame", "COLOUR": "red"}}
    broken = {"command": "/nonexistent/server"}
    file = tmp_path / "mcp.json"
    servers = {"My Pear": server, "fig": {"type": "stdio", **server}, "asks": {"command": "x", "args": ["${input:k}"]}}
    servers |= {"off": {**server, "disabled": True}, "none": {}, "broken": broken}
    file.write_text(json.dumps({"mcpServers": servers}))
    try:
        done = environment.tekup("import", str(file), "--json")
        results = {one["called"]: one for one in json.loads(done.stdout)}
        assert done.returncode == 1
        assert [name for name, one in results.items() if not one["problem"]] == ["My Pear", "fig"]
        assert "my-pear_echo" in results["My Pear"]["tools"]
        assert "asks its user for k" in results["asks"]["problem"]
        assert "could not be started" in results["broken"]["problem"]
        assert "sesame" not in (environment.state / "bridges" / "fig.json").read_text()
    finally:
        for name in ("my-pear", "fig", "broken"):
            environment.tekup("remove", name)


@pytest.mark.long
@pytest.mark.feature("B7")
async def test_added_servers_come_back_with_the_environment(fresh_environment: Any) -> None:
    fresh_environment.start()
    assert fresh_environment.tekup("add", "pear", "--", sys.executable, str(HOSTILE)).returncode == 0
    broken = fresh_environment.tekup("add", "plum", "--", "/nonexistent/server")
    assert broken.returncode == 1
    fresh_environment.tekup("down")
    began = time.monotonic()
    up = fresh_environment.tekup("up")
    assert up.returncode == 0, up.stderr
    assert "plum, which was added, is not ready" in up.stderr
    assert time.monotonic() - began < 200
    assert await said(fresh_environment, "2026-07-28", "pear_echo", text="again") == "again"
