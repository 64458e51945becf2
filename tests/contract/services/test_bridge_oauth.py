"""A bridge before a remote server that wants an OAuth token, with a real authorization server behind both."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.services.conftest import Instance, Starter
from tests.contract.services.test_bridge_hostile import again
from tests.contract.services.test_bridge_remote import Remote
from tests.support.authorization import MACHINE, AuthorizationServer, Person, signed_in

pytestmark = [pytest.mark.local, pytest.mark.feature("B11"), pytest.mark.timeout(180)]
LIFE_S = 4
WITHIN_S = 30.0
SCOPE = "mcp:ledger"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorizationServer]:
    """Whose tokens live for seconds."""
    folder = tmp_path_factory.mktemp("issuer")
    with AuthorizationServer(folder, [SCOPE], ttl_s=LIFE_S) as server:
        yield server


@pytest.fixture(scope="module")
def remote(issuer: AuthorizationServer) -> Iterator[Remote]:
    made = Remote("http", issuer.issuer)
    made.start()
    yield made
    made.kill()


def bridge_to(remote: Remote, starter: Starter, folder: Path, **oauth: Any) -> Instance:
    file = folder / "declaration.json"
    asked = {"issuer": remote.issuer, "scope": SCOPE, **{name: str(value) for name, value in oauth.items()}}
    file.write_text(json.dumps({"name": "pear", "url": remote.url, "oauth": asked, "answer_s": 2}))
    return starter.start("pear", module="services.bridge", MCP_BRIDGE_FILE=file)


def secret(folder: Path, text: str) -> Path:
    file = folder / "secret"
    file.write_text(f"{text}\n")
    return file


async def until_expired() -> None:
    """Longer than any token lives that was made until now."""
    await asyncio.sleep(LIFE_S + 1)


async def test_a_client_gets_tokens_for_itself_and_new_ones_when_they_end(
    remote: Remote, starter: Starter, tmp_path: Path
) -> None:
    file = secret(tmp_path, MACHINE["client_secret"])
    instance = bridge_to(remote, starter, tmp_path, client_id=MACHINE["client_id"], secret_file=file)
    async with instance.session() as session:
        pid = await again(session, "pear_pid")
        await until_expired()
        said = await session.call("pear_pid")
        assert (said.error, said.text) == ("", pid)
    assert MACHINE["client_secret"] not in instance.log.read_text()
    assert instance.end() == 0


async def test_somebody_s_tokens_are_renewed_and_kept_in_their_file(
    remote: Remote, starter: Starter, tmp_path: Path
) -> None:
    alice = Person("alice")
    async with signed_in(remote.url, alice, "legacy"):
        pass
    assert alice.tokens is not None
    assert alice.tokens.refresh_token
    assert alice.registered is not None
    file = tmp_path / "tokens.json"
    file.write_text(alice.tokens.model_dump_json())
    file.chmod(0o600)
    instance = bridge_to(remote, starter, tmp_path, client_id=alice.registered.client_id, token_file=file)
    async with instance.session() as session:
        pid = await again(session, "pear_pid")
        before = json.loads(file.read_text())
        await until_expired()
        said = await session.call("pear_pid")
        assert (said.error, said.text) == ("", pid)
        after = json.loads(file.read_text())
        assert after["access_token"] != before["access_token"]
        assert after["refresh_token"]
        assert file.stat().st_mode & 0o777 == 0o600
    assert instance.end() == 0
    log = instance.log.read_text()
    assert not [word for word in (*before.values(), *after.values()) if len(str(word)) > 20 and str(word) in log]


def told(instance: Instance, reason: str) -> None:
    """Wait until the log says why it is not ready."""
    deadline = time.monotonic() + WITHIN_S
    while reason not in instance.log.read_text():
        assert time.monotonic() < deadline, instance.log.read_text()
        assert instance.process.poll() is None
        time.sleep(0.05)
    assert '"serving"' not in instance.log.read_text()
    assert instance.end() == 0


def test_a_wrong_secret_is_told_and_does_not_stand_in_the_log(remote: Remote, starter: Starter, tmp_path: Path) -> None:
    file = secret(tmp_path, "open sesame, all the same")
    instance = bridge_to(remote, starter, tmp_path, client_id=MACHINE["client_id"], secret_file=file)
    told(instance, "invalid_client")
    assert "open sesame" not in instance.log.read_text()


def test_a_secret_goes_to_no_other_authorization_server_than_the_declared_one(
    remote: Remote, starter: Starter, tmp_path: Path
) -> None:
    file = secret(tmp_path, MACHINE["client_secret"])
    elsewhere = {"issuer": "https://issuer.example", "client_id": MACHINE["client_id"], "secret_file": file}
    told(bridge_to(remote, starter, tmp_path, **elsewhere), "issuer mismatch")
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"access_token": "old", "token_type": "Bearer", "refresh_token": "none"}))
    told(bridge_to(remote, starter, tmp_path, issuer="https://issuer.example", client_id="x", token_file=tokens),
         "https://issuer.example is declared")  # fmt: skip
