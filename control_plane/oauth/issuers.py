"""Which authorization servers are believed, and how far: the issuers file, parsed. Pure."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from control_plane.errors import Refused
from control_plane.model import Document, Glob, problems_of

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""Signatures that only the issuer can make: whatever a verifier could make itself (``HS*``), or nobody needs to
(``none``), is not to be had."""


def trusted_url(url: str) -> str:
    """A URL whose answers may be believed: https, or this very machine.

    Raises:
        ValueError: It is neither, or carries a user, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise ValueError("only https is believed, or http to this machine's loopback")
    if not parts.hostname or "@" in parts.netloc or "?" in url or "#" in url or any(char <= " " for char in url):
        raise ValueError("a URL with a host, and without user, query and fragment, is needed")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


TrustedUrl = Annotated[str, AfterValidator(trusted_url)]
ScopeToken = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,256}$")]


class Issuer(Document):
    """One authorization server.

    Attributes:
        issuer: Exactly as its tokens say it in ``iss``.
        jwks_url: Where its keys are; empty = what its metadata says (RFC 8414, OpenID discovery).
        algorithms: Signatures that are taken from it.
        types: What ``typ`` may be, whatever the case; a token without one counts as ``JWT``.
        client_claims: Which claim names its client; the first that a token has.
        leeway_s: How far its clock and ours may differ.
        scopes: What its own scopes cover, as globs on tool, prompt and resource names.
    """

    issuer: TrustedUrl
    jwks_url: TrustedUrl | Literal[""] = ""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "PS256", "ES256", "EdDSA")
    types: Annotated[tuple[str, ...], Field(min_length=1)] = ("at+jwt", "JWT")
    client_claims: Annotated[tuple[str, ...], Field(min_length=1)] = ("client_id", "azp")
    leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    scopes: dict[ScopeToken, tuple[Glob, ...]] = Field(default_factory=dict)

    @property
    def discovery(self) -> tuple[str, ...]:
        """Where its metadata may be, the standard's place first."""
        parts = urlsplit(self.issuer)
        root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        return (
            f"{root}/.well-known/oauth-authorization-server{path}",
            f"{self.issuer.rstrip('/')}/.well-known/openid-configuration",
        )


_ISSUERS = TypeAdapter(tuple[Issuer, ...])


def read_issuers(text: bytes, where: str) -> dict[str, Issuer]:
    """The issuers of a file, by name.

    Args:
        text: A JSON list.
        where: The file, for messages.

    Raises:
        Refused: It makes no sense, is empty, or names one twice.
    """
    try:
        found = _ISSUERS.validate_json(text)
    except ValidationError as error:
        raise Refused(f"{where}: {problems_of(error)}") from error
    issuers = {one.issuer: one for one in found}
    if not issuers or len(issuers) != len(found):
        raise Refused(f"{where}: {'it names one issuer twice' if found else 'it names no issuer'}; correct it")
    return issuers
