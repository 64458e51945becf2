"""One decision: a bearer on a path → a grant, or a refusal. Decisions are remembered for seconds."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_plane.errors import BadToken, Refused, Unavailable
from control_plane.oauth.answers import INVALID, Refusal
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.keys import KeyRing
from control_plane.oauth.scopes import Resources, Scopes, only
from control_plane.oauth.tables import Known, Tables
from control_plane.oauth.tokens import Claims, check_audience, check_header, parse, prove
from control_plane.signed import Bearer, grant

log = logging.getLogger(__name__)

SUBJECT_DIGITS = 16
MOST_REMEMBERED = 10_000
Remembered = tuple[float, "str | Refusal"]


@dataclass(frozen=True)
class Trusted:
    """An issuer and its keys."""

    issuer: Issuer
    keys: KeyRing


def subject(claims: Claims) -> str:
    """Tells users apart without telling who they are."""
    return hashlib.sha256(f"{claims.issuer}\n{claims.subject}".encode()).hexdigest()[:SUBJECT_DIGITS]


class Guard:
    """Decides about bearers.

    Args:
        trusted: Issuers that are believed, by name.
        tables: The gate's.
        resources: What tokens may be for.
        scopes: The form of our scopes.
        now: Seconds since the epoch.
        cache_s: How long a decision is remembered, in seconds.
    """

    def __init__(
        self,
        trusted: Mapping[str, Trusted],
        tables: Tables,
        resources: Resources,
        scopes: Scopes,
        *,
        now: Callable[[], float],
        cache_s: float,
    ) -> None:
        self._trusted = trusted
        self._tables = tables
        self._resources = resources
        self._scopes = scopes
        self._now = now
        self._cache_s = cache_s
        self._known: Known | None = None
        self._remembered: OrderedDict[tuple[bytes, str], Remembered] = OrderedDict()

    async def decide(self, token: str, service: str) -> str | Refusal:
        """The grant a bearer stands for on a service's path ("" = the hub's), or why it is turned away."""
        try:
            known = self._tables.known()
        except Unavailable as error:
            return Refusal(503, "no_table", str(error), retry_after_s=1)
        if known is not self._known:
            self._known = known
            self._remembered.clear()
        # The token itself is kept nowhere.
        at = (hashlib.sha256(token.encode()).digest(), service)
        until, decision = self._remembered.get(at, (0.0, ""))
        if self._now() >= until:
            until, decision = await self._decided(known, token, service)
            if known is self._known:
                self._remember(at, (until, decision))
        return decision

    def _remember(self, at: tuple[bytes, str], what: Remembered) -> None:
        self._remembered[at] = what
        self._remembered.move_to_end(at)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _decided(self, known: Known, token: str, service: str) -> Remembered:
        now = self._now()
        try:
            claims = await self._proven(token, service)
            return min(now + self._cache_s, claims.expires), self._granted(known, claims, service)
        except BadToken as error:
            return now + self._cache_s, Refusal(401, error.reason, str(error), INVALID)
        except Unavailable:
            # What went wrong on the way to the issuer is in the log; it is no caller's business.
            message = "the keys of the token's issuer cannot be had now; try again later"
            return now, Refusal(503, "no_keys", message, retry_after_s=5)

    async def _proven(self, text: str, service: str) -> Claims:
        token = parse(text)
        trusted = self._trusted.get(token.issuer)
        if trusted is None:
            raise BadToken("issuer", "the token's issuer is not believed here; see authorization_servers")
        check_header(token, trusted.issuer)
        key = await trusted.keys.signer(token.named("alg"), token.named("kid"))
        if key is None:
            raise BadToken("signature", "the issuer has no key, or more than one, that may have signed the token")
        claims = prove(token, trusted.issuer, key, self._now())
        check_audience(claims, self._resources.accepted(service))
        return claims

    def _granted(self, known: Known, claims: Claims, service: str) -> str | Refusal:
        within = self._scopes.within(claims.scopes, self._trusted[claims.issuer].issuer.scopes)
        if service and self._resources.of("") not in claims.audiences:
            within = only(service, within)
        try:
            client = known.client_of(claims.issuer, claims.client)
            if client is None:
                log.warning("oauth.nobody", extra={"issuer": claims.issuer, "oauth_client": claims.client})
                message = "the token is good, but no client of this platform takes its bearers; an operator can add one"
                # No challenge: no other scope would help, and clients would have their user sign in again and again.
                return Refusal(403, "nobody", message)
            return grant(client, "", known.mac_key, Bearer(subject(claims), claims.expires, within))
        except Refused as error:
            log.warning("oauth.not_granted", extra={"issuer": claims.issuer, "problem": str(error)})
            message = "the token is good, but what it stands for here is at fault; an operator finds out why in the log"
            return Refusal(403, "not_granted", message)
