"""A JWT access token (RFC 9068): from its text to what may be believed of it. Pure; the clock is given.

Parsing is stricter than the library's: whatever two readers could read differently (a claim twice, a number that is
none, blanks in base64) is refused before anything is looked at.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, NoReturn

from jwt import PyJWS
from jwt.exceptions import PyJWTError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.errors import BadToken
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.jwks import PublicKey

LONGEST_TOKEN = 8192
_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_LAST_TIME = 253_402_300_799
_JWS = PyJWS()

Time = Annotated[float, Field(ge=0, le=_LAST_TIME, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    iss: Text
    sub: Text
    aud: Text | list[Text]
    exp: Time
    nbf: Time = 0
    iat: Time = 0
    scope: str | list[str] = ""
    scp: str | list[str] = ""
    cnf: None = None


@dataclass(frozen=True)
class Unproven:
    """A token as it speaks of itself; nothing of it is believed yet."""

    text: str
    header: Mapping[str, object]
    claims: Mapping[str, object]

    def named(self, member: str) -> str:
        """A member of the header, "" if it is missing or no text."""
        found = self.header.get(member)
        return found if isinstance(found, str) else ""

    @property
    def issuer(self) -> str:
        """Who made it, as it says."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True)
class Claims:
    """What a proven token says.

    Attributes:
        issuer: Who made it.
        subject: On whose behalf the caller acts.
        client: Which of the issuer's clients calls.
        audiences: Which resources it is for.
        scopes: What it is good for.
        expires: When it ends, in seconds since the epoch, the leeway included.
    """

    issuer: str
    subject: str
    client: str
    audiences: frozenset[str]
    scopes: frozenset[str]
    expires: int


def parse(text: str) -> Unproven:
    """Take a token apart.

    Raises:
        BadToken: It is no JWT that only one reading has.
    """
    form = _FORM.fullmatch(text) if len(text) <= LONGEST_TOKEN else None
    if not form:
        raise BadToken("malformed", f"the bearer is no JSON Web Token of at most {LONGEST_TOKEN} characters")
    return Unproven(text, _object(form[1], "header"), _object(form[2], "payload"))


def _object(segment: str, what: str) -> Mapping[str, object]:
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = json.loads(raw.decode(), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadToken("malformed", f"the {what} of the token is not JSON that can be read in one way only") from error
    if not isinstance(found, dict):
        raise BadToken("malformed", f"the {what} of the token is no JSON object")
    return found


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member stands there twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def check_header(token: Unproven, issuer: Issuer) -> None:
    """Whether the header is one this issuer's tokens may have, before any key is looked for.

    Raises:
        BadToken: It is not.
    """
    if token.named("alg") not in issuer.algorithms:
        raise BadToken("algorithm", f"the token's alg is not among those taken here: {', '.join(issuer.algorithms)}")
    kind = str(token.header.get("typ", "JWT")).lower().removeprefix("application/")
    if kind not in {known.lower() for known in issuer.types}:
        raise BadToken("type", "the token's typ is not that of an access token")
    # Extensions that change what the signature means are not spoken here.
    if {"crit", "b64", "zip"} & token.header.keys():
        raise BadToken("malformed", "the token's header asks for extensions that are not spoken here")
    if "kid" in token.header and not token.named("kid"):
        raise BadToken("malformed", "the token's kid is empty or no text")


def prove(token: Unproven, issuer: Issuer, key: PublicKey, now_s: float) -> Claims:
    """Check signature and claims.

    Args:
        token: Its header is already checked.
        issuer: Whom it says it is from.
        key: The key of that issuer which it says has signed it.
        now_s: Seconds since the epoch.

    Raises:
        BadToken: It is forged, out of its time, or lacks what an access token has to say.
    """
    usable = key.usable(token.named("alg"))
    if usable is None:
        raise BadToken("signature", "the issuer's key is broken, or too short to be believed")
    try:
        _JWS.decode_complete(token.text, usable, algorithms=list(issuer.algorithms))
    except PyJWTError as error:
        raise BadToken("signature", "the token's signature is not its issuer's") from error
    try:
        said = _Said.model_validate(token.claims)
    except ValidationError as error:
        wrong = sorted({str(problem["loc"][0]) for problem in error.errors()})
        raise BadToken(
            "claims", f"the token's {', '.join(wrong)} cannot be taken; it is missing or malformed"
        ) from error
    if said.iss != issuer.issuer:
        raise BadToken("issuer", "the token's iss is not who signed it")
    _check_time(said, issuer.leeway_s, now_s)
    named = (token.claims.get(claim) for claim in issuer.client_claims)
    client = next((name for name in named if isinstance(name, str) and name), "")
    audiences = frozenset([said.aud] if isinstance(said.aud, str) else said.aud)
    scopes = frozenset(_words(said.scope) | _words(said.scp))
    return Claims(said.iss, said.sub, client, audiences, scopes, int(said.exp) + issuer.leeway_s)


def _check_time(said: _Said, leeway_s: int, now_s: float) -> None:
    if now_s >= int(said.exp) + leeway_s:
        raise BadToken("expired", "the token has expired; get a new one")
    if said.nbf > now_s + leeway_s or said.iat > now_s + leeway_s:
        raise BadToken("early", "the token is not valid yet; compare the clocks of its issuer and of this gate")


def _words(scopes: str | list[str]) -> set[str]:
    return set(scopes.split(" ") if isinstance(scopes, str) else scopes) - {""}


def check_audience(claims: Claims, resources: Collection[str]) -> None:
    """Whether a token is for one of these resources (RFC 8707).

    Raises:
        BadToken: It was made for somebody else.
    """
    if claims.audiences.isdisjoint(resources):
        raise BadToken(
            "audience", f"the token is not for this resource; ask for one with resource={sorted(resources)[0]}"
        )
