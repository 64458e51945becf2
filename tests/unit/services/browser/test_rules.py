"""What a robots.txt asks is read as RFC 9309 has it."""

from __future__ import annotations

import pytest

from services.browser.rules import Rules

pytestmark = pytest.mark.feature("B1")

SITE = "http://x.example"


@pytest.mark.parametrize(
    ("pattern", "path", "forbidden"),
    [
        ("/", "/a", True),
        ("", "/a", False),
        ("/fish", "/fish.html", True),
        ("/fish", "/Fish.asp", False),
        ("/fish*", "/fishheads", True),
        ("/fish/", "/fish", False),
        ("/*.php", "/a/b.php?x", True),
        ("/*.php$", "/a.php", True),
        ("/*.php$", "/a.php?x", False),
        ("/*.php$", "/a.php5/b.php", True),
        ("/fish*.php", "/fishheads/cat.php?x", True),
        ("/a$b", "/a$bc", True),
        ("/$", "/", True),
        ("/$", "/a", False),
        ("*/private", "/a/private", True),
        ("/a*a$", "/a", False),
        ("/a*a$", "/aa", True),
        ("/?q=", "/?q=x", True),
        ("/caf%C3%A9", "/café", True),
        ("/café", "/caf%c3%a9", True),
        ("/a%62c", "/abc", True),
        ("/a%2Fb", "/a/b", False),
        ("/", "/robots.txt", False),
    ],
)
def test_a_pattern_means_what_the_standard_says(pattern: str, path: str, *, forbidden: bool) -> None:
    assert Rules.of(f"User-agent: *\nDisallow: {pattern}", "us").allow(f"{SITE}{path}") is not forbidden


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("User-agent: *\nAllow: /a/b\nDisallow: /a", True),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", True),
        ("User-agent: *\nDisallow: /a/b\nAllow: /a/b", True),
        ("User-agent: *\nAllow: /a\nDisallow: /a/*/c", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: US/1.0\nDisallow:", True),
        ("User-agent: us\nUser-agent: them\nDisallow: /", False),
        ("User-agent: us\nDisallow: /x\n\nUser-agent: us\nDisallow: /a", False),
        ("User-agent: use\nDisallow: /", True),
        ("Disallow: /", True),
        ("\ufeffuser-AGENT : *  # all\r\n disallow:/ # of it\r\n", False),
        ("User-agent: *\nSitemap: /s\nDisallow: /", False),
        ("no rule at all\n\0", True),
    ],
)
def test_the_longest_pattern_of_our_own_groups_decides(text: str, *, allowed: bool) -> None:
    assert Rules.of(text, "us").allow(f"{SITE}/a/b/c") is allowed


def test_no_rule_keeps_anybody_waiting() -> None:
    rules = Rules.of("User-agent: *\n" + f"Disallow: /{'*a' * 900}*b\n" * 200, "us")
    assert rules.allow(f"{SITE}/{'a' * 50_000}")
