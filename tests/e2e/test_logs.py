"""Logs of a whole environment: what a call leaves in them, what it does not, and how much is said."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.crowd import clients
from tests.support.lines import whole_lines
from tests.support.sdk import ERAS, MODERN, asked, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.timeout(400), pytest.mark.feature("D2")]
OURS = ("agent", "browser", "control-plane", "filesystem", "hub", "search")
IDENTITY = {"agent": "gate", "control-plane": "replica"}


def log_texts(environment: Any) -> dict[str, str]:
    folder: Path = environment.state / "logs"
    # `pages` is the site that the browser visits, and logs as sites do
    return {path.name: path.read_text(errors="replace") for path in folder.iterdir() if path.name != "pages.log"}


async def use_everything(environment: Any, key: str, era: str, marker: str) -> list[str]:
    """Calls of all kinds with the marker in arguments, contents and results, many of them wrong; what came back."""
    workspace, page = (
        environment.state / "workspace",
        f"http://127.0.0.1:{environment.ports['pages']}/?token={marker}-url",
    )
    path, wrong = str(workspace / f"{marker}-name.txt"), {"path": {"a": f"{marker}-wrong"}, f"{marker}-unknown": 1}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("filesystem_write_file", {"path": path, "content": f"password={marker}-content\n{marker}-plain"}),
        ("filesystem_read_file", {"path": path}),
        ("filesystem_read_file", {"path": f"{path}.{marker}-missing"}),
        ("filesystem_read_file", wrong),
        ("filesystem_edit_file", {"path": path, "edits": [{"old_text": f"{marker}-nowhere", "new_text": "x"}]}),
        ("search_grep", {"pattern": f"{marker}-plain", "path": str(workspace)}),
        ("search_text", {"query": f"{marker}-plain"}),
        ("search_grep", {"pattern": f"({marker}-broken", "path": str(workspace)}),
        ("browser_open", {"url": page}),
        ("browser_open", {"url": f"file:///{marker}-scheme"}),
        ("browser_close", {"handle": f"a1b2c3.{marker}.{marker}"}),
        (f"filesystem_{marker[:20]}", {}),
    ]
    answers = []
    async with sdk_client(f"{environment.gateway_url}/mcp", key, era) as client:
        for tool, arguments in calls:
            answers.append(str(await asked(client, tool, arguments)))
    return answers


@pytest.fixture(scope="module")
def talkative(environment: Any) -> Any:
    """The environment with all that can be told logging everything, told while it runs."""
    said = environment.tekup("logs", "level", "all", "debug")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "in force"
    yield environment
    assert environment.tekup("logs", "level", "all", "default").returncode == 0


async def test_nothing_of_keys_arguments_and_contents_is_in_any_log_of_any_process(talkative: Any) -> None:
    marker = f"zq{secrets.token_hex(12)}"
    with clients(talkative, *ERAS) as keys:
        answers = [one for era in ERAS for one in await use_everything(talkative, keys[era], era, marker)]
        bearers = (f"Bearer tk_nobody_{marker}{marker}", f"Basic {marker}", marker)
        async with httpx.AsyncClient() as http:
            for header in bearers:
                sent = {"Authorization": header, "Cookie": marker, "MCP-Protocol-Version": MODERN}
                url = f"{talkative.gateway_url}/mcp?key={marker}"
                answer = await http.post(url, headers=sent | {"Mcp-Method": "tools/list"}, json={})
                assert answer.status_code == 401
        hidden = [key.rsplit("_", 1)[1] for key in keys.values()]
    assert any(f"{marker}-plain" in one for one in answers)
    said = log_texts(talkative)
    assert len(said) > 8
    for name, text in said.items():
        lines = [
            line for line in text.splitlines() if marker in line and f'Mcp-Name":"filesystem_{marker[:20]}"' not in line
        ]
        assert not lines, f"{name}: {lines[0][:2000]}"
        assert not [secret for secret in hidden if secret in text], name
    assert '"level": "debug"' in said["control-plane.log"] + said["agent.log"]


def test_every_line_of_our_processes_is_json_and_says_who_wrote_it(talkative: Any) -> None:
    for name, text in log_texts(talkative).items():
        service = next((one for one in OURS if name.startswith(one)), "")
        for number, line in enumerate(text.splitlines() if service and "consul" not in name else ()):
            fields = json.loads(line)
            identity = IDENTITY.get(service, "instance")
            assert fields["service"] == service, f"{name}:{number}"
            assert {"ts", "level", "event", "version", identity} <= fields.keys(), f"{name}:{number}"


def test_a_level_changes_in_the_process_it_is_told_for_and_is_shown(talkative: Any) -> None:
    name = talkative.process("search").name
    path = talkative.state / "logs" / f"{name}.log"
    assert talkative.tekup_json("logs", "level", name, "error")[0] == {
        "process": name,
        "level": "error",
        "running": True,
    }
    last = [json.loads(line) for line in whole_lines(path)][-1]
    assert (last["event"], last["now"]) == ("log.level", "error")
    shown = {one["process"]: one["level"] for one in talkative.tekup_json("logs", "level")}
    assert shown.pop(name) == "error"
    assert set(shown.values()) == {"debug"}
    refused = talkative.tekup("logs", "level", name, "loud")
    assert refused.returncode == 2
    assert talkative.tekup("logs", "level", name, "debug").returncode == 0


async def test_a_call_is_found_in_the_logs_of_all_processes_by_its_client_and_tool(talkative: Any) -> None:
    with clients(talkative, "finder") as keys:
        async with sdk_client(f"{talkative.gateway_url}/mcp", keys["finder"], MODERN) as client:
            assert (await asked(client, "filesystem_list_roots", {})).ok
    found = talkative.tekup("logs", "--client", "finder", "--tool", "filesystem_list_roots", "--json")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert len([line for line in lines if line.get("event") == "call" and line["outcome"] == "ok"]) == 1
    assert [line["entryPointName"] for line in lines if "DownstreamStatus" in line] == ["public"]
    people = talkative.tekup("logs", "--client", "finder", "--since", "1h").stdout
    assert max(map(len, people.splitlines())) <= 80
    assert "tool=filesystem_list_roots" in people
    unknown = talkative.tekup("trace", "f" * 32)
    assert unknown.returncode == 1
    assert "nothing is known of trace" in unknown.stderr
