"""Settings of a replica: under which address the others find it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from control_plane.settings import ControlPlaneSettings

pytestmark = pytest.mark.feature("C12")
TOKEN = Path("operator.token")


@pytest.mark.parametrize(
    ("host", "advertised", "url"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:3010"),
        ("::1", "", "http://[::1]:3010"),
        ("0.0.0.0", "", f"http://{socket.gethostname()}:3010"),
        ("0.0.0.0", "https://plane-1.internal/api", "https://plane-1.internal/api"),
    ],
)
def test_a_replica_is_found_where_it_says_else_where_it_listens(host: str, advertised: str, url: str) -> None:
    settings = ControlPlaneSettings(operator_token_file=TOKEN, host=host, port=3010, advertise_url=advertised)
    assert settings.own_url == url


@pytest.mark.parametrize("advertised", ["plane-1:3010", "ftp://plane-1", "http://", "http://plane 1"])
def test_an_address_that_nobody_could_ask_is_refused(advertised: str) -> None:
    with pytest.raises(ValidationError, match="advertise_url"):
        ControlPlaneSettings(operator_token_file=TOKEN, advertise_url=advertised)


def test_a_name_that_no_replica_can_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="replica"):
        ControlPlaneSettings(operator_token_file=TOKEN, replica="Plane One")


def test_an_empty_path_names_nothing_and_not_the_folder_one_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MCP_GIT_MIRROR", "MCP_REGION_CA_FILE", "MCP_PROMTOOL"):
        monkeypatch.setenv(name, "")
    settings = ControlPlaneSettings(operator_token_file=TOKEN)
    assert (settings.git_mirror, settings.region_ca_file, settings.promtool) == (None, None, None)
