"""Secrets that are replaced while an instance runs: the token it shows Consul, and its service's keys."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.background import beside
from services.common.errors import SettingsError
from services.common.metrics import Metrics
from services.common.registry import Registration, Registry
from services.common.rekey import keep_keys
from services.common.request_state import RingCodec
from services.common.settings import ServiceSettings, load_settings
from services.common.signing import Keyring
from services.common.tokens import TokenFile
from services.common.trust import Trust
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("E7")

OLD, NEW = b"o" * 32, b"n" * 32


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    spare = path.with_suffix(".tmp")
    spare.write_text(text)
    spare.chmod(mode)
    spare.rename(path)
    return path


def keys_file(path: Path, *keys: bytes) -> Path:
    return put(path, json.dumps({"service": "browser", "keys": [key.hex() for key in keys]}))


def test_a_token_is_read_again_when_its_file_is_replaced(tmp_path: Path) -> None:
    file = TokenFile(put(tmp_path / "token", "first\n"))
    assert file.current().secret == "first"
    put(tmp_path / "token", "second\n")
    os.utime(tmp_path / "token", (1000.5, 1000.5))
    assert (file.current().secret, file.current().written_s) == ("second", 1000.5)


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: put(path, "\n"), lambda path: path.write_bytes(b"\xff")]
)
def test_the_token_of_before_is_kept_while_the_file_makes_no_sense(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    file = TokenFile(put(tmp_path / "token", "first"))
    assert file.current().secret == "first"
    spoil(tmp_path / "token")
    assert file.current().secret == "first"


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    assert "first" not in repr(TokenFile(put(tmp_path / "token", "first")).current())


@pytest.mark.parametrize(
    ("text", "mode", "said"), [("x", 0o644, "chmod 600"), ("", 0o600, "holds no token"), (None, 0, "No such file")]
)
def test_a_token_file_that_is_missing_empty_or_open_to_others_is_a_problem_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, mode: int, said: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        put(path, text, mode)
    monkeypatch.setenv("MCP_CONSUL_TOKEN_FILE", str(path))
    monkeypatch.setenv("MCP_STANDALONE", "true")
    with pytest.raises(SettingsError, match=f"MCP_CONSUL_TOKEN_FILE: .*{said}"):
        load_settings("browser", ServiceSettings)


def test_a_gate_that_shows_the_new_proof_is_believed_once_the_keys_are_renewed_and_the_old_one_still() -> None:
    keyring = Keyring((OLD,))
    trust = Trust(keyring, standalone=False, own_proof="5f" * 32)
    proofs = {key: Keyring((key,)).gate_proofs()[0].encode() for key in (OLD, NEW)}
    keyring.renew((NEW, OLD))
    for proof in proofs.values():
        assert trust.call_of({b"x-tekup-gate": proof, b"x-tekup-client": b"~hub"}).client == "~hub"


def test_handles_and_half_done_calls_of_before_outlive_a_renewal() -> None:
    keyring = Keyring((OLD,))
    codec = RingCodec(keyring)
    handle, sealed = keyring.sign_handle("a1b2c3", "dev"), codec.seal(b"half done")
    keyring.renew((NEW, OLD))
    assert keyring.checks_handle(handle, "dev")
    assert codec.unseal(sealed) == b"half done"
    assert codec.unseal(RingCodec(Keyring((NEW,))).seal(b"of another")) == b"of another"
    assert keyring.caller_proof() == Keyring((NEW,)).caller_proof()


async def test_keys_are_taken_up_from_the_file_and_the_metric_says_which(tmp_path: Path) -> None:
    path = keys_file(tmp_path / "keys.json", OLD)
    keyring, metrics = Keyring((OLD,)), Metrics(service="browser", version="1", instance="a1b2c3")

    def shown() -> float:
        return metrics.registry.get_sample_value("tekup_secret_file_seconds", {"secret": "keys"}) or 0.0

    async with beside(keep_keys(path, keyring, metrics)):
        put(path, "{}")
        await asyncio.sleep(0)
        keys_file(path, NEW, OLD)

        async def renewed() -> bool:
            return keyring.keys == (NEW, OLD) and shown() == pytest.approx(path.stat().st_mtime)

        await eventually(renewed, "the new keys", 20)


async def test_a_registration_by_an_older_token_does_not_count_as_held(tmp_path: Path) -> None:
    registry = Registry("http://127.0.0.1:9", token_file=put(tmp_path / "token", "first"))
    wanted = Registration("browser", "a1b2c3", "1", "127.0.0.1", 1, 2, "serving")
    try:
        assert not await registry.holds(wanted)  # it asks nobody: nothing listens there
    finally:
        await registry.close()
