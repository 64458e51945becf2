"""Which addresses a page may reach. Pure.

Refused is everything the IANA special-purpose registries set aside, what wraps such an address in another one, and
the metadata services of clouds. An operator may allow a host by name; metadata services never.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["HostRule", "Policy", "refusal"]

Address = IPv4Address | IPv6Address

_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
) | {ip_address("fd00:ec2::254"), ip_address("fd20:ce::254")}

# https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry, multicast and
# reserved space included. Kept here in full: what `is_global` means has changed between versions of Python.
_SPECIAL: tuple[tuple[IPv4Network | IPv6Network, str], ...] = tuple(
    (ip_network(network), meaning)
    for network, meaning in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "unspecified, loopback or IPv4-compatible"),
        ("64:ff9b:1::/48", "local translation"),
        ("100::/63", "discard"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_WELL_KNOWN_TRANSLATION = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class HostRule:
    """A host that may be reached though its address is special.

    Args:
        host: Its name or address, as in a URL, in lower case.
        port: The only port, None for all.
    """

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> "HostRule":
        """Read `host`, `host:port`, `[v6]:port` or a bare address.

        Raises:
            ValueError: It is none of them.
        """
        host, colon, port = text.rpartition(":")
        bare = not colon or (text.count(":") > 1 and not host.endswith("]"))
        if bare:
            host, port = text, ""
        if not host.strip("[]") or any(char in host for char in "/@ *") or (port and not port.isdecimal()):
            raise ValueError(f"{text!r} is not a host or host:port")
        return cls(_plain(host), int(port) if port else None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


@dataclass(frozen=True)
class Policy:
    """What one page may reach.

    Args:
        allowed: Hosts whose special addresses it may reach.
        closed: It may reach nothing at all.
    """

    allowed: frozenset[HostRule] = frozenset()
    closed: bool = False

    def refusal(self, host: str, port: int, address: Address) -> str | None:
        """Why `address`, which `host` resolved to, may not be reached; None when it may."""
        if self.closed:
            return "nothing may be reached from here"
        inner = _unwrapped(address)
        if inner in _METADATA:
            return "is the metadata service of a cloud"
        if {HostRule(_plain(host), port), HostRule(_plain(host), None)} & self.allowed:
            return None
        return refusal(address)


def refusal(address: Address) -> str | None:
    """Why an address may not be reached, None when it is an ordinary one of the public internet."""
    inner = _unwrapped(address)
    for network, meaning in _SPECIAL:
        if inner in network:
            return f"has a {meaning} address"
    return None if inner.is_global else "has an address that is not public"


def _unwrapped(address: Address) -> Address:
    """The address that is reached in the end: IPv4 within IPv6 by mapping, translation, 6to4."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _WELL_KNOWN_TRANSLATION:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or IPv6Address(int(address))  # without a scope: `fe80::1%eth0`
