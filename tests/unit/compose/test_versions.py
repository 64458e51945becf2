"""Versions as programs print them."""

import pytest

from compose.local.versions import at_least, printed_version


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Consul v1.22.5\nBuild Date 1970-01-01", "1.22.5"),
        ("Version:      3.7.15\nCodename:     langres", "3.7.15"),
        ("Chromium 156.0.8078.79 built on Debian", "156.0.8078.79"),
        ("ripgrep 15.1.0", "15.1.0"),
        ("go version go1.26.8 linux/amd64", "1.26.8"),
        ("no version here", ""),
    ],
)
def test_the_version_is_found_in_what_a_program_prints(printed: str, version: str) -> None:
    assert printed_version(printed) == version


@pytest.mark.parametrize(
    ("version", "minimum", "enough"),
    [("1.22.5", "1.22", True), ("1.21.9", "1.22", False), ("1.100.0", "1.22", True), ("", "1.22", False),
     ("1.25", "1.25.7", False)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version: str, minimum: str, enough: bool) -> None:
    assert at_least(version, minimum) is enough
