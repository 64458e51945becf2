"""Which addresses and URLs a page may reach."""

import json
from ipaddress import ip_address

import pytest

from services.browser.urls import UrlError, checked_url, is_foreign
from services.common.addresses import HostRule, Policy, refusal

pytestmark = pytest.mark.feature("B1")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.8", "192.0.2.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "5f00::1", "3fff::1",
    ],
)  # fmt: skip
def test_every_special_address_is_refused(address: str) -> None:
    assert refusal(ip_address(address)) is not None
    assert Policy().refusal("host.example", 80, ip_address(address)) is not None


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_an_ordinary_address_is_not_refused(address: str) -> None:
    assert Policy().refusal("host.example", 443, ip_address(address)) is None


def test_an_allowed_host_may_be_special_at_its_port_only() -> None:
    policy = Policy(frozenset({HostRule.of("dev.internal:8080"), HostRule.of("[::1]:3000"), HostRule.of("Box.")}))
    private = ip_address("10.0.0.1")
    assert policy.refusal("dev.internal", 8080, private) is None
    assert policy.refusal("DEV.internal.", 8080, private) is None
    assert policy.refusal("dev.internal", 80, private) is not None
    assert policy.refusal("x.dev.internal", 8080, private) is not None
    assert policy.refusal("::1", 3000, ip_address("::1")) is None
    assert policy.refusal("box", 1234, private) is None


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "168.63.129.16"]
)
def test_metadata_services_are_refused_even_when_the_host_is_allowed(address: str) -> None:
    policy = Policy(frozenset({HostRule.of("metadata"), HostRule.of(address)}))
    for host in ("metadata", address):
        assert "metadata" in str(policy.refusal(host, 80, ip_address(address)))


def test_a_closed_policy_lets_nothing_out() -> None:
    assert Policy(closed=True).refusal("host.example", 443, ip_address("8.8.8.8")) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", HostRule("localhost", None)),
        ("127.0.0.1:8080", HostRule("127.0.0.1", 8080)),
        ("::1", HostRule("::1", None)),
        ("[::1]", HostRule("::1", None)),
        ("[fd00::1]:80", HostRule("fd00::1", 80)),
    ],
)
def test_a_host_rule_is_read_in_each_spelling(text: str, expected: HostRule) -> None:
    assert HostRule.of(text) == expected


@pytest.mark.parametrize("text", ["", "http://x", "*.internal", "a b", "host:port", "user@host", ":80"])
def test_what_is_no_host_is_refused_as_a_rule(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        HostRule.of(text)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "view-source:file:///etc/passwd", "view-source:http://x/", "chrome://version",
        "javascript:alert(1)", "data:text/html,x", "blob:http://x/1", "filesystem:http://x/", "ftp://x/", "ws://x/",
        "about:config", "about:blank#x", "x", "", " http://x/", "http:/x", "http:\\\\x", "http://", "https://:80/",
        "http://x/\n", "http://x/\0", "http://[::1/", "http://x:99999/", "http://" + "x" * 9000, "\thttp://x",
    ],
)  # fmt: skip
def test_a_url_that_is_not_of_the_web_is_refused_and_named(url: str) -> None:
    with pytest.raises(UrlError) as refused:
        checked_url(url)
    assert json.dumps(url[:20])[1:5].strip('"') in str(refused.value) or not url.strip()


@pytest.mark.parametrize(
    "url", ["http://x/", "HTTPS://x:8/a?b#c", "about:blank", "http://[::1]:80/", "http://2130706433/"]
)
def test_a_url_of_the_web_is_taken_as_it_is(url: str) -> None:
    assert checked_url(url) == url


def test_frames_that_left_the_web_are_recognised() -> None:
    assert is_foreign("file:///etc/passwd")
    assert is_foreign("chrome://version")
    assert not any(
        map(is_foreign, ["", "about:srcdoc", "https://x/", "data:,x", "blob:https://x/1", "chrome-error://x"])
    )
