"""The edge's certificate: judged first, then put in place by one rename, so that a broken one changes nothing.

Traefik would answer with a certificate of its own making if the files it was told of do not fit each other. So it is
never told of the source files: a pair that was found to be good is copied under a name of its own into
`<gate>/certificates/`, and `dynamic/tls.yml` names it. The last good pair stays until there is a better one.
"""

import hashlib
import json
import re
import string
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from .errors import BadCertificate
from .files import PRIVATE, carried, write_atomically

TLS = Path("dynamic/tls.yml")
FOLDER, STATE = "certificates", "state.json"
RSA_BITS = 2048
_CERTIFICATE = re.compile(r'certFile: "([^"]+)"')


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, the leaf first, and the leaf's key; PEM."""

    chain: str
    key: str

    @property
    def name(self) -> str:
        """Tells it from every other."""
        return hashlib.sha256(self.chain.encode()).hexdigest()[:16]

    def leaf(self) -> x509.Certificate:
        """The certificate itself.

        Raises:
            ValueError: there is none.
        """
        return x509.load_pem_x509_certificates(self.chain.encode())[0]


def read_pair(certificate: Path, key: Path) -> Pair:
    """Read a pair, good or bad.

    Raises:
        BadCertificate: a file cannot be read.
    """
    try:
        return Pair(certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise BadCertificate(f"the certificate {certificate} or its key cannot be read: {error}") from error


def judge(pair: Pair, now: datetime) -> x509.Certificate:
    """Say whether clients could be served with a pair.

    Args:
        pair: what is to be put in place.
        now: the time.

    Returns:
        The leaf.

    Raises:
        BadCertificate: what is wrong with it.
    """
    try:
        chain = x509.load_pem_x509_certificates(pair.chain.encode())
    except ValueError as error:
        raise BadCertificate(f"the certificate file holds no PEM certificate that can be read: {error}") from error
    leaf = chain[0]
    _judge_key(leaf, pair.key)
    if now > leaf.not_valid_after_utc:
        raise BadCertificate(f"the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")
    if now < leaf.not_valid_before_utc:
        raise BadCertificate(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    _judge_use(leaf)
    for lower, upper in pairwise(chain):
        if not is_issued_by(lower, upper):
            raise BadCertificate("the certificates of the file are no chain: each has to be issued by the next, "
                                 "the gate's own first")  # fmt: skip
    return leaf


def _judge_key(leaf: x509.Certificate, pem: str) -> None:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except TypeError as error:
        raise BadCertificate("the key is encrypted; the gate starts unattended, so store it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"the key file holds no PEM key that can be read: {error}") from error
    if key.public_key() != leaf.public_key():
        raise BadCertificate("the key does not belong to the certificate")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS:
        raise BadCertificate(f"the key has {key.key_size} bits; RSA takes {RSA_BITS} at least")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size < ec.SECP256R1.key_size:
        raise BadCertificate(f"the key is on the curve {key.curve.name}; take secp256r1 or secp384r1")


def _judge_use(leaf: x509.Certificate) -> None:
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(uses):
            raise BadCertificate("the certificate is not for servers (extended key usage)")
    except x509.ExtensionNotFound:
        pass
    if not any(names_of(leaf)):
        raise BadCertificate("the certificate names no host (subject alternative name); clients would refuse it")


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate bears the other's signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def names_of(leaf: x509.Certificate) -> tuple[list[str], list[str]]:
    """The host names and the addresses that a certificate is for."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return names.get_values_for_type(x509.DNSName), [str(one) for one in names.get_values_for_type(x509.IPAddress)]


class Shelf:
    """The pairs of one gate, of which one is in place."""

    def __init__(self, gate: Path, seen_as: Path | None = None) -> None:
        """Args:
        gate: the gate's folder, laid out.
        seen_as: where Traefik has that folder, if elsewhere.
        """
        self._tls = gate / TLS
        self._folder = gate / FOLDER
        self._seen = (seen_as or gate) / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def in_place(self) -> Pair | None:
        """What Traefik was told of last, if it can be read."""
        try:
            found = _CERTIFICATE.search(self._tls.read_text(encoding="utf-8"))
            own = self._folder / Path(found[1]).name if found else None
            return read_pair(own, own.with_suffix(".key")) if own else None
        except (OSError, BadCertificate):
            return None

    def put(self, pair: Pair, leaf: x509.Certificate) -> None:
        """Put a pair in place; Traefik takes it up within milliseconds.

        Args:
            pair: one that was judged.
            leaf: its leaf.
        """
        before = self.in_place()
        certificate, key = self._folder / f"{pair.name}.pem", self._folder / f"{pair.name}.key"
        write_atomically(key, pair.key, PRIVATE)
        write_atomically(certificate, pair.chain)
        template = string.Template(carried("traefik", "tls.yml.tmpl").read_text(encoding="utf-8"))
        # a client that goes by an address sends no name
        strict = "false" if names_of(leaf)[1] else "true"
        paths = {"CERTIFICATE": str(self._seen / certificate.name), "KEY": str(self._seen / key.name)}
        write_atomically(self._tls, template.substitute(paths, SNI_STRICT=strict))
        kept = {
            pair.name,
            before.name if before else "",
            Path(STATE).stem,
        }  # Traefik may still be reading the one before
        for path in self._folder.iterdir():
            if path.stem not in kept:
                path.unlink()

    def clear(self) -> None:
        """Tell Traefik of none."""
        self._tls.unlink(missing_ok=True)

    def note(self, problem: str) -> None:
        """Write down why the source is not what is in place, "" if it is."""
        said = json.dumps({"problem": problem}) + "\n"
        path = self._folder / STATE
        if not path.exists() or path.read_text(encoding="utf-8") != said:
            write_atomically(path, said)

    def problem(self) -> str:
        """What was noted last."""
        try:
            return str(json.loads((self._folder / STATE).read_text(encoding="utf-8"))["problem"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""
