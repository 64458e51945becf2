"""An issuer's published keys (RFC 7517): which of them may have signed a token. Pure.

Only keys that stand in the issuer's own document count. What a token carries or points to (``jwk``, ``jku``, ``x5c``,
``x5u``) is never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from jwt import PyJWK
from jwt.exceptions import PyJWTError

MOST_KEYS = 64
SMALLEST_RSA_BITS = 2048
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies signatures.

    Attributes:
        kid: Its name, "" if it has none.
        alg: The one algorithm it is for, "" for any of its kind.
        kind: RSA, EC or OKP.
        curve: Of EC and OKP.
        text: Its public members as JSON.
    """

    kid: str
    alg: str
    kind: str
    curve: str
    text: str

    def fits(self, alg: str) -> bool:
        """Whether signatures of an algorithm are made with such a key."""
        return self.alg in ("", alg) and self.kind == KINDS.get(alg[:2]) and self.curve == CURVES.get(alg, "")

    def usable(self, alg: str) -> PyJWK | None:
        """The key for the library, None if it is broken or too weak."""
        return _loaded(self.text, alg)


@lru_cache(maxsize=256)
def _loaded(text: str, alg: str) -> PyJWK | None:
    try:
        key = PyJWK(json.loads(text), algorithm=alg)
    except (PyJWTError, ValueError, TypeError):
        return None
    too_weak = alg[:2] in ("RS", "PS") and key.key.key_size < SMALLEST_RSA_BITS
    return None if too_weak else key


def read_keys(document: object) -> tuple[PublicKey, ...]:
    """The keys of a JWKS document that can verify signatures; others are left out."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    found = (_key(one) for one in (listed[:MOST_KEYS] if isinstance(listed, list) else ()))
    return tuple(key for key in found if key)


def _key(jwk: object) -> PublicKey | None:
    if not isinstance(jwk, Mapping):
        return None
    kid, alg, kind, curve, use = (_text(jwk.get(name)) for name in ("kid", "alg", "kty", "crv", "use"))
    operations = jwk.get("key_ops")
    for_signatures = use in ("", "sig") and (not isinstance(operations, list) or "verify" in operations)
    if kind not in KINDS.values() or not for_signatures:
        return None
    # An issuer that publishes a private key by mistake has published it; there is no need to keep it here as well.
    public = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
    return PublicKey(kid, alg, kind, curve if kind != "RSA" else "", json.dumps(public, sort_keys=True))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def signer(keys: Iterable[PublicKey], alg: str, kid: str) -> PublicKey | None:
    """The key that signed, if the keys leave one answer.

    Args:
        keys: The issuer's.
        alg: The token's algorithm.
        kid: The key's name in the token; without one, there must be a single key that fits.
    """
    fitting = [key for key in keys if key.fits(alg) and kid in ("", key.kid)]
    return fitting[0] if len(fitting) == 1 else None
