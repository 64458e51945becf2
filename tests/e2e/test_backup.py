"""A backup under load, everything wiped, restored: all is as it was, and keys only as far as they can be trusted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.drill import recovered
from tests.support.load import Load, body, headers
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(500), pytest.mark.feature("F5")]
RECOVERED_S = 180
Json = dict[str, Any]


class Operator:
    """The operators' API of an environment that comes and goes."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def ask(self, method: str, path: str, given: Json | None = None) -> Json:
        token = {"Authorization": f"Bearer {self._environment.operator_token}"}
        url = f"{self._environment.control_plane_url}{path}"
        answer = httpx.request(method, url, json=given, headers=token, timeout=40, trust_env=False)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found


def call(environment: Any, key: str, tool: str, arguments: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{environment.gateway_url}/mcp", json=body("tools/call", {"name": tool, "arguments": arguments}),
                      headers=headers(key, "tools/call", tool), timeout=30, trust_env=False)  # fmt: skip


@contextlib.asynccontextmanager
async def writing(environment: Any) -> AsyncIterator[Load]:
    """Files are read and written all the time."""
    url, path = f"{environment.gateway_url}/mcp", str(environment.workspace / "busy.txt")
    reads = Load(url, environment.key, "filesystem_read_file", {"path": str(environment.workspace / "kept.txt")})
    writes = Load(
        url, environment.key, "filesystem_write_file", {"path": path, "content": "x" * 4000, "overwrite": True}
    )
    async with reads.running(workers=1), writes.running(workers=2):
        yield writes
    assert not reads.failures
    assert not writes.failures


def cut(archive: Path, damaged: Path) -> Path:
    damaged.write_bytes(archive.read_bytes()[:-100])
    return damaged


def settings(environment: Any, folder: Path, **more: object) -> None:
    lines = {"MCP_BACKUP_FOLDER": str(folder), "MCP_BACKUP_KEY_FILE": str(folder.parent / "backup.key"), **more}
    with (environment.directory / "tekup.toml").open("a") as file:
        file.writelines(f"{name} = {value!r}\n" for name, value in lines.items())


@pytest.mark.long
@pytest.mark.drill
async def test_all_is_lost_and_comes_back_with_versions_weights_keys_files_and_history(
    fresh_environment: Any, tmp_path: Path
) -> None:
    there, folder = fresh_environment, tmp_path / "backups"
    settings(there, folder)
    await asyncio.to_thread(there.start)
    operator = Operator(there)
    version = there.process("search").version
    await asyncio.to_thread(there.tekup_json, "scale", "search=1", "--version", "2.0.0")
    for name in ("kept", "ended"):
        operator.ask("POST", "/v1/clients", {"id": name, "reason": "test"})
    keys = {name: operator.ask("POST", f"/v1/clients/{name}/keys", {"reason": "test"}) for name in ("kept", "ended")}
    before = operator.ask("GET", "/v1/status")["revision"]
    operator.ask("PUT", "/v1/services/search/traffic", {"weights_pct": {"2.0.0": 25}, "reason": "test"})
    (there.workspace / "kept.txt").write_text("as it was")
    (there.workspace / "busy.txt").write_text("")
    (there.workspace / "deep" / "er").mkdir(parents=True)
    (there.workspace / "deep" / "link").symlink_to("../kept.txt")
    async with writing(there) as writes:
        taken = await asyncio.to_thread(there.tekup_json, "backup", "create")
        await writes.more(10)
    policy = operator.ask("GET", "/v1/services/search")["policy"]
    assert taken["whole"]
    print(f"backup of {taken['files']} files in {taken['seconds']:.1f} s, writers waited {taken['held_s']:.2f} s")
    metrics = f"{there.control_plane_url}/metrics"

    async def shown() -> bool:
        answer = await asyncio.to_thread(httpx.get, metrics, trust_env=False)
        return "tekup_backup_age_seconds" in answer.text

    await eventually(shown, "the age of the backup to be shown", 20)

    # What comes after the backup is lost, but for what is known of revocations.
    operator.ask("DELETE", f"/v1/keys/{keys['ended']['id']}?reason=left")
    operator.ask("POST", "/v1/clients", {"id": "after", "reason": "test"})
    (there.workspace / "kept.txt").write_text("changed after the backup")
    there_is = await asyncio.to_thread(there.tekup, "backup", "restore")
    assert there_is.returncode == 2, "where there is an environment nothing is restored"
    await asyncio.to_thread(there.tekup, "down")
    shutil.rmtree(there.state)

    damaged = cut(Path(taken["path"]), tmp_path / "damaged.age")
    refused = await asyncio.to_thread(there.tekup, "backup", "restore", str(damaged))
    assert refused.returncode == 2
    assert "nothing was touched" in " ".join(refused.stderr.lower().split())
    assert not (there.state / "secrets").exists()

    began_s = time.monotonic()
    restored = await asyncio.to_thread(there.tekup_json, "backup", "restore", "latest", "--trust-keys")
    await asyncio.to_thread(there.start)
    recovered_s = time.monotonic() - began_s
    print(
        f"restored in {restored['seconds']:.1f} s, serving after {recovered_s:.1f} s, {restored['lost_s']:.0f} s lost"
    )
    recovered("everything, restored on an empty machine", recovered_s, RECOVERED_S)
    assert operator.ask("GET", "/v1/services/search")["policy"] == policy
    assert (there.workspace / "kept.txt").read_text() == "as it was"
    assert (there.workspace / "deep" / "er").is_dir()
    assert (there.workspace / "deep" / "link").readlink() == Path("../kept.txt")
    assert (there.workspace / "busy.txt").read_text() == "x" * 4000
    good = await asyncio.to_thread(
        call, there, keys["kept"]["key"], "search_grep", {"pattern": "lighthouse", "path": "."}
    )
    assert good.status_code == 200
    assert {one["id"] for one in operator.ask("GET", "/v1/clients")["clients"]} == {"dev", "kept", "ended"}
    versions = {one["version"] for one in operator.ask("GET", "/v1/services/search")["instances"]}
    assert versions == {version, "2.0.0"}
    operator.ask("POST", "/v1/state/rollback", {"to": before, "reason": "test"})
    lanes = operator.ask("GET", "/v1/services/search")["policy"]["lanes"]
    assert [(lane["version"], lane["weight_pct"]) for lane in lanes if lane["weight_pct"]] == [(version, 100)]


@pytest.mark.long
async def test_a_revocation_that_was_written_down_is_not_lost(fresh_environment: Any, tmp_path: Path) -> None:
    """The process that takes backups also writes down revocations; the first backup is taken by it alone."""
    there, folder = fresh_environment, tmp_path / "backups"
    settings(there, folder, MCP_BACKUP_EVERY_H=24)
    await asyncio.to_thread(there.start)
    operator = Operator(there)

    async def taken() -> bool:
        return bool(list(folder.glob("*.age"))) and bool(list(folder.glob("tekup-revocations-*")))

    await eventually(taken, "the first backup", 60)
    key_id = there.key.split("_")[1]
    await asyncio.to_thread(operator.ask, "DELETE", f"/v1/keys/{key_id}?reason=left")

    async def written() -> bool:
        return any(key_id in path.read_text() for path in folder.glob("tekup-revocations-*"))

    await eventually(written, "the revocation to be written down", 90)
    verified = await asyncio.to_thread(there.tekup_json, "backup", "verify", "latest")
    assert verified["ok"]
    assert [one["name"] for one in await asyncio.to_thread(there.tekup_json, "backup", "list")] == [
        Path(verified["path"]).name
    ]
    old_key = there.key
    await asyncio.to_thread(there.tekup, "down")
    shutil.rmtree(there.state)
    restored = await asyncio.to_thread(there.tekup_json, "backup", "restore", "latest", "--trust-keys")
    assert restored["keys_revoked"] == 1
    await asyncio.to_thread(there.start)
    assert there.key != old_key
    assert (
        await asyncio.to_thread(call, there, old_key, "search_grep", {"pattern": "x", "path": "."})
    ).status_code == 401

    # Without trust, and without anybody who knows: every key is revoked before a gate is there to take it.
    new_key = there.key
    await asyncio.to_thread(there.tekup_json, "backup", "create")
    await asyncio.to_thread(there.tekup, "down")
    shutil.rmtree(there.state)
    for known in folder.glob("tekup-revocations-*"):
        known.unlink()
    distrusted = await asyncio.to_thread(there.tekup, "backup", "restore", "latest")
    assert distrusted.returncode == 0, distrusted.stderr
    assert "All keys are revoked (1 were good then)" in " ".join(distrusted.stdout.split())
    await asyncio.to_thread(there.start)
    refused = await asyncio.to_thread(call, there, new_key, "search_grep", {"pattern": "x", "path": "."})
    assert refused.status_code == 401
