"""Makes access tokens, good ones and forged ones, with keys of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

ISSUER = "https://id.example.com"
BASE = "https://mcp.example.com"
HUB = f"{BASE}/mcp"
NOW = 1_800_000_000
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def packed(value: object) -> str:
    """JSON as a segment of a token."""
    return b64(json.dumps(value, separators=(",", ":")).encode())


@cache
def made(kind: str, number: int = 0) -> PrivateKey:
    """A private key of a kind, the same one for the same number."""
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "OKP":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA") or 2048))


@dataclass(frozen=True)
class Mint:
    """Signs with one key.

    Attributes:
        alg: The algorithm.
        kind: The key's kind; RSA1024 is too short.
        kid: The key's name.
        number: Tells keys of one kind apart.
    """

    alg: str = "RS256"
    kind: str = "RSA"
    kid: str = "k1"
    number: int = 0

    @property
    def key(self) -> PrivateKey:
        """The private key."""
        return made(self.kind, self.number)

    @property
    def pem(self) -> bytes:
        """The public key, as an attacker of algorithms uses it."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as it is published."""
        jwk: dict[str, Any] = json.loads(get_default_algorithms()[self.alg].to_jwk(self.key.public_key()))
        return {**{name: jwk[name] for name in jwk if name != "key_ops"}, "kid": self.kid, "use": "sig"}

    def header(self, **more: object) -> dict[str, object]:
        """The header; None leaves a member out."""
        said = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid, **more}
        return {name: value for name, value in said.items() if value is not None}

    def token(self, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """A token that is good but for what is given."""
        return self.signed(packed(self.header(**(header or {}))), packed(good(**claims)))

    def signed(self, header: str, payload: str) -> str:
        """Segments and their signature."""
        text = f"{header}.{payload}"
        return f"{text}.{b64(get_default_algorithms()[self.alg].sign(text.encode(), self.key))}"


def good(**more: object) -> dict[str, object]:
    """The claims of a token that is good at `NOW`, but for what is given; None leaves a claim out."""
    said: dict[str, object] = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": HUB,
        "client_id": "desktop",
        "scope": "mcp:ledger",
        "iat": NOW - 10,
        "exp": NOW + 600,
        **more,
    }
    return {name: value for name, value in said.items() if value is not None}


@dataclass
class Published:
    """The keys an issuer publishes."""

    mints: list[Mint] = field(default_factory=lambda: [Mint()])

    @property
    def document(self) -> dict[str, object]:
        """As its JWKS."""
        return {"keys": [mint.jwk for mint in self.mints]}
