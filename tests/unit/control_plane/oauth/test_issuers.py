"""The issuers file."""

from __future__ import annotations

import json

import pytest

from control_plane.errors import Refused
from control_plane.oauth.issuers import read_issuers

pytestmark = pytest.mark.feature("A11")


def read(*issuers: object) -> object:
    return read_issuers(json.dumps(issuers).encode(), "issuers.json")


@pytest.mark.parametrize(
    "url", ["https://id.example.com/a", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"]
)
def test_an_issuer_is_spoken_to_by_https_or_on_this_machine(url: str) -> None:
    assert read({"issuer": url, "jwks_url": f"{url}/jwks"})


@pytest.mark.parametrize("url", [
    "http://id.example.com", "http://127.0.0.1.example.com", "ftp://x", "https://", "https://u@x", "https://x?y",
    "https://x#y", "", "file:///etc/passwd", "http://localhost@evil.example", "https://x y",
])  # fmt: skip
def test_others_are_refused(url: str) -> None:
    with pytest.raises(Refused, match=r"issuers\.json: 0\.issuer"):
        read({"issuer": url})


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "RS1", ""])
def test_no_algorithm_can_be_allowed_that_the_verifier_could_sign_with(algorithm: str) -> None:
    with pytest.raises(Refused, match="algorithms"):
        read({"issuer": "https://x", "algorithms": ["RS256", algorithm]})


def test_a_file_names_each_issuer_once_and_at_least_one() -> None:
    with pytest.raises(Refused, match="no issuer"):
        read()
    with pytest.raises(Refused, match="twice"):
        read({"issuer": "https://x"}, {"issuer": "https://x"})
    with pytest.raises(Refused, match="Extra"):
        read({"issuer": "https://x", "jwks": "y"})


def test_metadata_is_looked_for_where_the_standards_put_it() -> None:
    one = read_issuers(b'[{"issuer": "https://x/tenant"}]', "f")["https://x/tenant"]
    assert one.discovery == (
        "https://x/.well-known/oauth-authorization-server/tenant",
        "https://x/tenant/.well-known/openid-configuration",
    )
