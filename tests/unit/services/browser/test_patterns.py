"""Patterns of callers mean what they say, and none keeps anybody waiting."""

from __future__ import annotations

import pytest

from services.browser.patterns import PatternError, in_line, of_url

pytestmark = pytest.mark.feature("B1")


@pytest.mark.parametrize(
    ("glob", "url", "meant"),
    [
        ("**/api/*", "http://x.example/a/api/b", True),
        ("**/api/*", "http://x.example/a/api/b/c", False),
        ("http://x.example/{a,b}", "http://x.example/b", True),
        ("http://x.example/a?", "http://x.example/ab", False),
        ("http://x.example", "http://x.example/", True),
        ("**", "http://x.example/é", True),
    ],
)
def test_a_glob_means_what_it_means_to_playwright(glob: str, url: str, *, meant: bool) -> None:
    assert of_url(glob)(url) is meant


@pytest.mark.parametrize("glob", ["{a", "a}", "{{a}}"])
def test_a_glob_that_is_none_is_refused(glob: str) -> None:
    with pytest.raises(PatternError, match="Invalid glob pattern"):
        of_url(glob)


@pytest.mark.parametrize("regex", ["(", "(?=a)", "a{0,5000}", "\\", r"(a)\1"])
def test_a_regex_that_is_none_is_refused(regex: str) -> None:
    with pytest.raises(PatternError, match=r"is none that RE2 takes: .+"):
        in_line(regex)


def test_no_pattern_keeps_anybody_waiting() -> None:
    assert not in_line("(a|aa)+$")("a" * 100_000 + "!")
    assert not of_url("http://x.example/" + "*a" * 200 + "*b")("http://x.example/" + "a" * 50_000)
