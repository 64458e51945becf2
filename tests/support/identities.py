"""Certificates of a real Consul's CA, and of nobody's; intentions; a CA that is changed."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.consul_cluster import ConsulCluster
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until

CONNECT = {"enabled": True, "test_ca_leaf_root_change_spread": "10ms"}
"""A server's settings: with them leaves follow a changed CA at once, and not within half a minute."""


Consul = ConsulProcess | ConsulCluster


@dataclass(frozen=True)
class Papers:
    """A certificate, its key and whom its holder trusts, all PEM."""

    chain: str
    key: str
    roots: str
    uri: str

    def context(self) -> ssl.SSLContext:
        """For a client that shows them."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.load_verify_locations(cadata=self.roots)
        if self.chain:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "leaf.pem")
                path.write_text(self.chain + self.key)
                made.load_cert_chain(path)
        return made

    def client(self, timeout_s: float = 20.0) -> httpx.Client:
        """A client that shows them; a connection of its own each time."""
        return httpx.Client(verify=self.context(), timeout=timeout_s, trust_env=False)


def papers(consul: Consul, name: str) -> Papers:
    """Those that Consul makes for a name."""

    def answered() -> bool:
        return httpx.get(f"{consul.url}/v1/agent/connect/ca/leaf/{name}", trust_env=False).is_success

    wait_until(answered, "Consul's CA", 30)
    leaf = httpx.get(f"{consul.url}/v1/agent/connect/ca/leaf/{name}", trust_env=False).json()
    return Papers(leaf["CertPEM"], leaf["PrivateKeyPEM"], roots(consul), leaf["ServiceURI"])


def roots(consul: Consul) -> str:
    """All of Consul's roots."""
    found = httpx.get(f"{consul.url}/v1/agent/connect/ca/roots", trust_env=False).json()["Roots"]
    return "".join(root["RootCert"] for root in found)


def stranger(known: Papers) -> Papers:
    """The same name from a CA of one's own; it trusts whom the known one trusts."""
    authority, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a stranger's CA")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(known.uri)]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    key = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Papers(made.public_bytes(serialization.Encoding.PEM).decode(), key.decode(), known.roots, known.uri)


def allow(consul: Consul, destination: str, *sources: str) -> None:
    """Let these call that, and nobody else."""
    entry = {
        "Kind": "service-intentions",
        "Name": destination,
        "Sources": [{"Name": source, "Action": "allow"} for source in sources],
    }
    httpx.put(f"{consul.url}/v1/config", json=entry, trust_env=False).raise_for_status()


def forbid(consul: Consul, destination: str) -> None:
    """Take all its intentions away."""
    httpx.delete(f"{consul.url}/v1/config/service-intentions/{destination}", trust_env=False).raise_for_status()


def change_ca(consul: Consul) -> None:
    """Give Consul's CA another key and root; the old one is trusted on."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    wanted = {"Provider": "consul", "Config": {"PrivateKey": key.decode(), "RootCert": "", "LeafCertTTL": "72h"}}
    url = f"{consul.url}/v1/connect/ca/configuration"
    httpx.put(url, json=wanted, timeout=30, trust_env=False).raise_for_status()
