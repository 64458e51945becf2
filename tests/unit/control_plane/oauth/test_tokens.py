"""Which tokens are believed. Everything a forger may write is tried: none of it gets through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import BadToken
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.jwks import read_keys, signer
from control_plane.oauth.tokens import LONGEST_TOKEN, Claims, check_audience, check_header, parse, prove
from tests.support.mint import BASE, HUB, ISSUER, NOW, Mint, b64, good, packed

pytestmark = pytest.mark.feature("A11")

RSA, OTHER = Mint(), Mint(number=1, kid="k1")
EC, ED = Mint("ES256", "EC", "e1"), Mint("EdDSA", "OKP", "d1")
HONEST = Issuer(issuer=ISSUER)
KEYS = read_keys({"keys": [mint.jwk for mint in (RSA, EC, ED)]})


def believed(text: str, issuer: Issuer = HONEST, now_s: float = NOW) -> Claims:
    """All checks in their order, as the guard makes them."""
    token = parse(text)
    check_header(token, issuer)
    key = signer(KEYS, token.named("alg"), token.named("kid"))
    if key is None:
        raise BadToken("signature", "no such key")
    claims = prove(token, issuer, key, now_s)
    check_audience(claims, (HUB,))
    return claims


def reason(text: str, issuer: Issuer = HONEST) -> str:
    """Why it is turned away; fails if it is not."""
    with pytest.raises(BadToken) as refused:
        believed(text, issuer)
    for part in text.split("."):
        assert part not in str(refused.value) or len(part) < 8
    return refused.value.reason


def hs256(secret: bytes, header: dict[str, object]) -> str:
    text = f"{packed(header)}.{packed(good())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("mint", [RSA, EC, ED], ids=lambda mint: mint.alg)
def test_a_good_token_is_believed(mint: Mint) -> None:
    claims = believed(mint.token(scope="mcp:ledger other", scp=["third"]))
    assert (claims.issuer, claims.subject, claims.client) == (ISSUER, "alice", "desktop")
    assert claims.scopes == {"mcp:ledger", "other", "third"}
    assert claims.expires == NOW + 600 + HONEST.leeway_s


@pytest.mark.parametrize(
    ("said", "client"),
    [({}, "desktop"), ({"client_id": None, "azp": "web"}, "web"), ({"client_id": 7, "azp": "web"}, "web"),
     ({"client_id": None}, ""), ({"azp": "web"}, "desktop")],
)  # fmt: skip
def test_the_first_claim_that_names_a_client_counts(said: dict[str, Any], client: str) -> None:
    assert believed(RSA.token(**said)).client == client


FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: f"{packed(RSA.header(alg='none'))}.{packed(good())}.AA",
    "alg None in other letters": lambda: f"{packed(RSA.header(alg='nOnE'))}.{packed(good())}.AA",
    "no alg": lambda: RSA.signed(packed(RSA.header(alg=None)), packed(good())),
    "alg that is no text": lambda: RSA.token({"alg": ["RS256"]}),
    "HS256 with the public key": lambda: hs256(RSA.pem, RSA.header(alg="HS256")),
    "HS256 with the published JWK": lambda: hs256(json.dumps(RSA.jwk).encode(), RSA.header(alg="HS256")),
    "HS256 with nothing": lambda: hs256(b"", RSA.header(alg="HS256")),
    "RS256 in the header, HS256 beneath": lambda: hs256(RSA.pem, RSA.header()),
    "another's key": OTHER.token,
    "another's key in jwk": lambda: OTHER.token({"jwk": OTHER.jwk}),
    "another's key by jku": lambda: OTHER.token({"jku": "https://evil.example/jwks"}),
    "another's key by x5u": lambda: OTHER.token({"x5u": "https://evil.example/cert"}),
    "another's key in x5c": lambda: OTHER.token({"x5c": ["MIIB"]}),
    "EC key named by an RSA token": lambda: RSA.token({"kid": "e1"}),
    "RSA key named by an EC token": lambda: EC.token({"kid": "k1"}),
    "kid that is a path": lambda: RSA.token({"kid": "../../dev/null"}),
    "kid that is a query": lambda: RSA.token({"kid": "k1' OR '1'='1"}),
    "kid that is empty": lambda: RSA.token({"kid": ""}),
    "kid that is no text": lambda: RSA.token({"kid": {"$ne": ""}}),
    "kid that nobody has": lambda: RSA.token({"kid": "k2"}),
    "crit": lambda: RSA.token({"crit": ["exp"]}),
    "b64 off": lambda: RSA.token({"b64": False, "crit": ["b64"]}),
    "zip": lambda: RSA.token({"zip": "DEF"}),
    "an ID token's typ": lambda: RSA.token({"typ": "id_token+jwt"}),
    "a logout token": lambda: RSA.token({"typ": "logout+jwt"}),
    "a proof of possession": lambda: RSA.token({"typ": "dpop+jwt"}),
    "typ that is no text": lambda: RSA.token({"typ": ["at+jwt"]}),
    "bound to a key we do not ask for": lambda: RSA.token(cnf={"jkt": "x"}),
    "of another issuer": lambda: RSA.token(iss="https://evil.example"),
    "issuer with a slash": lambda: RSA.token(iss=f"{ISSUER}/"),
    "issuer in capitals": lambda: RSA.token(iss=ISSUER.upper()),
    "issuer that is a list": lambda: RSA.token(iss=[ISSUER]),
    "no issuer": lambda: RSA.token(iss=None),
    "for nobody": lambda: RSA.token(aud=None),
    "for no list of names": lambda: RSA.token(aud=[]),
    "for somebody else": lambda: RSA.token(aud="https://other.example/mcp"),
    "for a longer path": lambda: RSA.token(aud=f"{HUB}/more"),
    "for the base": lambda: RSA.token(aud=BASE),
    "for its client, as ID tokens are": lambda: RSA.token(aud="desktop"),
    "for an object": lambda: RSA.token(aud={HUB: True}),
    "for a list with an object": lambda: RSA.token(aud=[HUB, {}]),
    "expired": lambda: RSA.token(exp=NOW - 31),
    "never expiring": lambda: RSA.token(exp=None),
    "expiring at a text": lambda: RSA.token(exp=str(NOW + 600)),
    "expiring at true": lambda: RSA.token(exp=True),
    "expiring after all years": lambda: RSA.token(exp=1e300),
    "expiring at infinity": lambda: RSA.signed(packed(RSA.header()), b64(json.dumps(good(exp=float("inf"))).encode())),
    "expiring at nothing": lambda: RSA.signed(packed(RSA.header()), b64(json.dumps(good(exp=float("nan"))).encode())),
    "not valid yet": lambda: RSA.token(nbf=NOW + 31),
    "not valid before a text": lambda: RSA.token(nbf="0"),
    "made in the future": lambda: RSA.token(iat=NOW + 31),
    "on nobody's behalf": lambda: RSA.token(sub=None),
    "on behalf of nothing": lambda: RSA.token(sub=""),
    "on behalf of a number": lambda: RSA.token(sub=1),
    "scope that is an object": lambda: RSA.token(scope={"mcp:ledger": 1}),
    "a claim twice": lambda: RSA.signed(packed(RSA.header()), b64(_twice(json.dumps(good()), '"aud":"https://x"'))),
    "a header twice": lambda: RSA.signed(b64(_twice(json.dumps(RSA.header()), '"alg":"none"')), packed(good())),
    "two segments": lambda: RSA.token().rpartition(".")[0],
    "five segments": lambda: f"{RSA.token()}.AA.AA",
    "no signature": lambda: RSA.token().rpartition(".")[0] + ".",
    "padding": lambda: RSA.token() + "=",
    "a blank": lambda: RSA.token().replace(".", ". ", 1),
    "a line end": lambda: RSA.token() + "\n",
    "payload that is a list": lambda: RSA.signed(packed(RSA.header()), packed([good()])),
    "payload that is no JSON": lambda: RSA.signed(packed(RSA.header()), b64(b"iss")),
    "payload that nests without end": lambda: RSA.signed(packed(RSA.header()), b64(b"[" * 3000)),
    "payload that is no UTF-8": lambda: RSA.signed(packed(RSA.header()), b64(b'{"iss":"\xff"}')),
    "too long": lambda: RSA.token(more="x" * LONGEST_TOKEN),
    "a key of another form": lambda: "tk_dev-1_00",
    "empty": lambda: "",
}  # fmt: skip


def _twice(text: str, member: str) -> bytes:
    return f"{text[:-1]},{member}}}".encode()


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_turned_away(name: str) -> None:
    assert reason(FORGED[name]())


@pytest.mark.parametrize(("said", "why"), [
    ({"exp": NOW - 31}, "expired"), ({"nbf": NOW + 31}, "early"), ({"aud": "x"}, "audience"), ({"sub": None}, "claims"),
])  # fmt: skip
def test_why_it_was_turned_away_is_told(said: dict[str, Any], why: str) -> None:
    assert reason(RSA.token(**said)) == why


@pytest.mark.parametrize("said", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}, {"exp": NOW + 0.5}])
def test_clocks_may_differ_by_the_leeway(said: dict[str, Any]) -> None:
    assert believed(RSA.token(**said))


def test_without_a_name_the_only_key_that_fits_is_taken() -> None:
    assert believed(EC.token({"kid": None}))
    twins = read_keys({"keys": [RSA.jwk, {**OTHER.jwk, "kid": "k9"}]})
    assert signer(twins, "RS256", "") is None


@pytest.mark.parametrize("jwk", [
    {"kty": "oct", "k": "AAAA", "kid": "k1"}, {**RSA.jwk, "use": "enc"}, {**RSA.jwk, "key_ops": ["encrypt"]},
    {**RSA.jwk, "alg": "RS512"}, {**EC.jwk, "kid": "k1"}, {**RSA.jwk, "kid": 1}, "k1", None, {},
])  # fmt: skip
def test_a_key_that_is_not_for_this_is_none(jwk: Any) -> None:
    assert signer(read_keys({"keys": [jwk]}), "RS256", "k1") is None


def test_a_short_key_and_a_broken_one_prove_nothing() -> None:
    short = Mint(kind="RSA1024", kid="s1")
    for jwk in (short.jwk, {**short.jwk, "n": "!!"}):
        key = signer(read_keys({"keys": [jwk]}), "RS256", "s1")
        assert key
        with pytest.raises(BadToken):
            prove(parse(short.token()), HONEST, key, NOW)


def test_an_algorithm_the_issuer_does_not_use_is_not_taken_from_it() -> None:
    assert reason(RSA.token(), Issuer(issuer=ISSUER, algorithms=("ES256",))) == "algorithm"


@given(at=st.integers(min_value=0), flip=st.integers(1, 255), part=st.integers(0, 2))
def test_no_changed_bit_gets_through(at: int, flip: int, part: int) -> None:
    segments = EC.token().split(".")
    raw = bytearray(base64.urlsafe_b64decode(segments[part] + "=" * (-len(segments[part]) % 4)))
    raw[at % len(raw)] ^= flip
    segments[part] = b64(bytes(raw))
    with pytest.raises(BadToken):
        believed(".".join(segments))


MEMBERS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just([]) | st.just({})
)
JSON = MEMBERS | st.lists(MEMBERS, max_size=2)
HEADERS = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jwk", "zip", "x"]), JSON, max_size=3)
NAMES = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "scp", "cnf", "client_id"])


@given(header=HEADERS, claims=st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_stands_in_a_token_the_answer_is_claims_or_a_reason(header: Any, claims: Any) -> None:
    text = RSA.signed(packed({**RSA.header(), **header}), packed({**good(), **claims}))
    try:
        said = believed(text)
    except BadToken:
        return
    assert said.issuer == ISSUER
    assert HUB in said.audiences


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(BadToken):
        believed(text)
