"""Secrets of the control plane's processes, read again when their files are replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from control_plane.errors import Refused
from control_plane.gateway import ProofFile, read_proof
from control_plane.metrics import PlaneMetrics, Standing
from control_plane.tokens import TokenFile

pytestmark = pytest.mark.feature("E7")


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    spare = path.with_suffix(".tmp")
    spare.write_text(text)
    spare.chmod(mode)
    spare.rename(path)
    return path


def test_a_token_is_read_again_when_its_file_is_replaced_with_the_time_of_the_new_file(tmp_path: Path) -> None:
    path = put(tmp_path / "token", "first\n")
    file = TokenFile(path)
    assert file.current().secret == "first"
    put(path, "second\n")
    os.utime(path, (2000.5, 2000.5))
    assert (file.current().secret, file.current().written_s) == ("second", 2000.5)


def test_the_token_of_before_is_kept_while_its_file_is_missing_empty_or_open_to_others(tmp_path: Path) -> None:
    path = put(tmp_path / "token", "first")
    file = TokenFile(path)
    path.unlink()
    assert file.current().secret == "first"
    put(path, "")
    assert file.current().secret == "first"
    put(path, "evil", 0o644)
    assert file.current().secret == "first"
    put(path, "second")
    assert file.current().secret == "second"


@pytest.mark.parametrize(
    ("text", "mode", "said"), [("x", 0o644, "chmod 600"), ("", 0o600, "is empty"), (None, 0, "cannot be")]
)
def test_a_process_does_not_start_on_a_token_file_that_makes_no_sense(
    tmp_path: Path, text: str | None, mode: int, said: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        put(path, text, mode)
    with pytest.raises(Refused, match=f"MCP_CONSUL_TOKEN_FILE: .*{said}"):
        TokenFile(path)


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    assert "first" not in repr(TokenFile(put(tmp_path / "token", "first")).current())


def keys(path: Path, *values: str) -> Path:
    return put(path, json.dumps({"service": "control-plane", "keys": list(values)}))


def test_the_proof_follows_the_keys_and_stays_while_their_file_makes_no_sense(tmp_path: Path) -> None:
    path = keys(tmp_path / "keys.json", "ab" * 32)
    file = ProofFile(path)
    first = file.current()
    put(path, "{}")
    assert file.current() == first
    keys(path, "cd" * 32, "ab" * 32)
    assert file.current() == read_proof(path) != first
    assert file.written_s() == pytest.approx(path.stat().st_mtime)


def test_what_is_refused_and_which_secrets_are_in_use_stand_in_the_metrics() -> None:
    metrics = PlaneMetrics(lambda: Standing(True, 1, 1, 1, 0))
    metrics.watch_registrations(lambda: {"search": 2})
    metrics.watch_secret("consul_token", lambda: 1000.25)
    text = metrics.shown("")[0].decode()
    assert 'tekup_registrations_refused{service="search"} 2.0' in text
    assert 'tekup_secret_file_seconds{secret="consul_token"} 1000.25' in text
