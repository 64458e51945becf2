"""The development authority: a CA that is good for this machine's own names and for nothing else.

Whoever trusts it trusts it for localhost, the loopback addresses and the machine's name: its name constraints say
so, and clients hold it to them. Its key never leaves the environment's folder. Leaves live for days, and are made
anew long before they end by whoever keeps the certificate (`keep_certificate`).
"""

import re
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificates import Pair, is_issued_by
from .errors import BadCertificate
from .files import PRIVATE, write_atomically

CA, KEY = "ca.pem", "ca.key"
GATE = "TekUp MCP gate"
CA_LIFE = timedelta(days=365)
CA_LEFT = timedelta(days=30)
"""With less than this before it, an authority is replaced at the next start: clients have to be told."""
LEAF_LIFE = timedelta(days=7)
BEFORE = timedelta(minutes=5)
"""Clocks differ."""
ADDRESSES = ("127.0.0.1", "::1")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


def make_authority(folder: Path, now: datetime, *hosts: str) -> bool:
    """Make the authority, unless there is one with enough time before it.

    Args:
        folder: where `ca.pem` and `ca.key` go; it must exist.
        now: the time.
        hosts: names it may speak for besides localhost; by default what the machine calls itself.

    Returns:
        Whether a new one was made, which clients have to trust anew.

    Raises:
        BadCertificate: the one that is there cannot be read.
    """
    if (folder / CA).exists() and read_authority(folder)[0].not_valid_after_utc - now > CA_LEFT:
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"TekUp MCP development CA, {folder.parent.parent.name or 'root'}")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(key.public_key(), name, name, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(_permitted(hosts or (socket.gethostname(),)), None), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_atomically(folder / KEY, _key_pem(key), PRIVATE)
    write_atomically(folder / CA, _pem(certificate))
    return True


def issue(
    folder: Path, now: datetime, life: timedelta = LEAF_LIFE, *, names: Sequence[str] = (), called: str = GATE
) -> Pair:
    """Make a new leaf.

    Args:
        folder: the authority's.
        now: the time.
        life: how long it is good, if the authority is good as long.
        names: it is for, besides loopback, and it may call others too; none: a server's for every name the authority
            may speak for.
        called: its common name.

    Raises:
        BadCertificate: the authority cannot be read.
    """
    ca, ca_key = read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if names else [])]
    leaf = (
        _builder(key.public_key(), _name(called), ca.subject, now, min(life, ca.not_valid_after_utc - now))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(ca, names)), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Pair(_pem(leaf), _key_pem(key))


def is_of(folder: Path, leaf: x509.Certificate) -> bool:
    """Whether a leaf is of this authority, not of one that it has replaced.

    Raises:
        BadCertificate: the authority cannot be read.
    """
    return is_issued_by(leaf, read_authority(folder)[0])


def read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority and its key.

    Raises:
        BadCertificate: they cannot be read, or do not fit each other.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / CA).read_bytes())
        key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BadCertificate(f"the development authority in {folder} cannot be read ({error}); "
                             f"remove {CA} and {KEY} there; `tekup up --tls` makes a new one") from error  # fmt: skip
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise BadCertificate(f"{folder / KEY} is not the key of {CA}; remove both, and `tekup up --tls` makes new ones")
    return certificate, key


def _builder(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _permitted(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names = dict.fromkeys(("localhost", *(host.lower() for host in hosts if _HOST.fullmatch(host.lower()))))
    return [*(x509.DNSName(name) for name in names), *(x509.IPAddress(ip_network(address)) for address in ADDRESSES)]


def _names(ca: x509.Certificate, wanted: Sequence[str]) -> list[x509.GeneralName]:
    permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    named: list[x509.GeneralName] = [name for name in permitted if isinstance(name, x509.DNSName)]
    if wanted:
        named = [x509.DNSName(name) for name in wanted]
    return [*named, *(x509.IPAddress(ip_address(address)) for address in ADDRESSES)]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
