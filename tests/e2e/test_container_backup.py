"""A backup of an environment of containers under load, everything wiped, restored on empty volumes."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command_line import run_tekup, told
from tests.support.container_environment import ContainerEnvironment
from tests.support.drill import recovered
from tests.support.engine import Engine
from tests.support.load import Load, body, headers

pytestmark = [
    pytest.mark.docker,
    pytest.mark.long,
    pytest.mark.drill,
    pytest.mark.timeout(30 * 60),
    pytest.mark.feature("F5"),
]
RECOVERED_S = 600
Json = dict[str, Any]


@pytest.fixture
def stack(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, tmp_path: Path
) -> ContainerEnvironment:
    """A staging environment of the test's own; the test takes it down."""
    return ContainerEnvironment(engine.env, "staging", tmp_path, f"{run_prefix}-backup")


def backup(stack: ContainerEnvironment, *args: str, well: bool = True) -> Any:
    """Run `tekup backup … --of staging`; what it prints as JSON, or the message where it must fail."""
    own = {**stack.env, **stack.settings, "COMPOSE_PROJECT_NAME": stack.project,
           "MCP_BACKUP_FOLDER": str(stack.directory / "backups"),
           "MCP_BACKUP_KEY_FILE": str(stack.directory / "backup.key")}  # fmt: skip
    of = () if args[0] == "verify" else ("--of", "staging")
    done = run_tekup("backup", *args, *of, "--json", folder=stack.directory, timeout_s=900, own=own)
    if well:
        return told(done)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


def ask(stack: ContainerEnvironment, method: str, path: str, given: Json | None = None) -> Json:
    answer = stack.ask(method, path, given)
    assert answer.is_success, answer.text
    found: Json = answer.json()
    return found


def call(stack: ContainerEnvironment, key: str, tool: str, arguments: Json) -> httpx.Response:
    return httpx.post(f"{stack.gateway_url}/mcp", json=body("tools/call", {"name": tool, "arguments": arguments}),
                      headers=headers(key, "tools/call", tool), timeout=30,
                      verify=ssl.create_default_context(cafile=stack.ca))  # fmt: skip


def works(stack: ContainerEnvironment, key: str) -> bool:
    try:
        answer = call(stack, key, "filesystem_read_file", {"path": "/workspace/kept.txt"})
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and "as it was" in answer.text


def key_of(stack: ContainerEnvironment, client: str) -> str:
    ask(stack, "POST", "/v1/clients", {"id": client, "allow": ["*"], "reason": "test"})
    return str(ask(stack, "POST", f"/v1/clients/{client}/keys", {"reason": "test"})["key"])


def forget(*paths: str | Path) -> None:
    for path in paths:
        Path(path).unlink()


def cut(archive: Path) -> Path:
    damaged = archive.parent.parent / archive.name
    damaged.write_bytes(archive.read_bytes()[:-100])
    return damaged


async def test_all_is_lost_and_comes_back_and_a_damaged_backup_is_refused_before_anything_is_touched(
    stack: ContainerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        await asyncio.to_thread(stack.start)
        monkeypatch.setenv("SSL_CERT_FILE", str(stack.ca))
        kept, ended = key_of(stack, "kept"), key_of(stack, "ended")
        written = {"path": "/workspace/kept.txt", "content": "as it was\n"}
        assert 'isError":true' not in call(stack, kept, "filesystem_write_file", written).text
        load = Load(f"{stack.gateway_url}/mcp", stack.key, "filesystem_list_roots")
        async with load.running(workers=2):
            taken = await asyncio.to_thread(backup, stack, "create")
        assert not load.failures
        print(f"taken in {taken['seconds']:.1f} s under {load.calls} calls, writers waited {taken['held_s']} s")
        archive = Path(taken["path"])
        assert await asyncio.to_thread(backup, stack, "verify", str(archive))
        identifier = ended.split("_")[1]
        ask(stack, "DELETE", f"/v1/keys/{identifier}?reason=test")
        stashed = shutil.copy(archive, stack.directory)  # of one day only the last is kept
        later = await asyncio.to_thread(backup, stack, "create")
        forget(later["path"])  # what is known of revocations is newer than the backup that is restored
        shutil.move(stashed, archive)
        before = ask(stack, "GET", "/v1/state/resources")
        refused = await asyncio.to_thread(backup, stack, "restore", str(archive), well=False)
        assert "Nothing was touched" in refused

        stack.said("down", "--volumes", "--remove-orphans", "--timeout", "5")
        forget(*stack.workspace.iterdir())
        damaged = cut(archive)
        said = await asyncio.to_thread(backup, stack, "restore", str(damaged), well=False)
        assert "damaged" in said
        assert not json.loads(stack.said("ps", "--all", "--format", "json") or "[]")

        began = time.monotonic()
        done = await asyncio.to_thread(backup, stack, "restore", str(archive), "--trust-keys", "--timeout", "300")
        recovered_s = time.monotonic() - began
        await asyncio.to_thread(stack.start_again)
        while not works(stack, kept):
            assert time.monotonic() - began < RECOVERED_S
            await asyncio.sleep(1)
        serves_s = time.monotonic() - began
        recovered("an environment of containers, restored on empty volumes", serves_s, RECOVERED_S)
        print(f"restored in {recovered_s:.1f} s, serves after {serves_s:.1f} s; lost {done['lost_s']:.0f} s")
        assert call(stack, ended, "filesystem_list_roots", {}).status_code == 401, "revoked after the backup"
        after = ask(stack, "GET", "/v1/state/resources")
        assert after["resources"] == before["resources"]
    finally:
        stack.stop()
