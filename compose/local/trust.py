"""How clients reach the gate: under which address, and whom they have to trust for it.

Apart from `certificates`, which is about what the gate serves: this is what is printed, and what our own calls do.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .authority import CA, make_authority
from .certificates import Pair, Shelf, names_of
from .errors import BadCertificate
from .keep_certificate import Source, from_authority, from_files, turn
from .layout import Layout
from .progress import Reporter
from .settings import Settings


@dataclass(frozen=True)
class Gateway:
    """The public entrypoint, seen by a client."""

    address: str
    """Host and port where it listens."""
    name: str = ""
    """The host that its certificate is for, "" without TLS."""
    ca: Path | None = None
    """What a client has to trust; None: what the machine trusts anyway."""

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.name else "http"

    @property
    def url(self) -> str:
        """For people: the base URL under which the certificate is good."""
        return f"https://{self.name}:{self.address.rpartition(':')[2]}" if self.name else f"http://{self.address}"

    @property
    def direct_url(self) -> str:
        """For our own calls: the base URL by the address, wherever the name leads."""
        return f"{self.scheme}://{self.address}"

    def verify(self) -> ssl.SSLContext | bool:
        """For an HTTP client.

        Raises:
            BadCertificate: the authority's file cannot be read.
        """
        if not self.name or not self.ca:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadCertificate(f"the authority in {self.ca} cannot be read: {error}") from error


def gateway(layout: Layout, settings: Settings, address: str) -> Gateway:
    """The entrypoint as it is now.

    Args:
        layout: the environment.
        settings: in force.
        address: host and port of the entrypoint.
    """
    if settings.tls == "off":
        return Gateway(address)
    host = address.rpartition(":")[0]
    if settings.tls == "local":
        return Gateway(address, host, layout.authority / CA)
    ca = Path(settings.tls_ca_file) if settings.tls_ca_file else None
    return Gateway(address, _called(Shelf(layout.gate).in_place(), host), ca)


def _called(pair: Pair | None, host: str) -> str:
    """The name to call the gate by: its address if the certificate has it, else the first that it has."""
    hosts, addresses = names_of(pair.leaf()) if pair else ([], [])
    if host in addresses or not hosts:
        return host
    return "localhost" if "localhost" in hosts else hosts[0].replace("*", "mcp")


def source_of(layout: Layout, settings: Settings) -> Source:
    """Where the certificate comes from; not for `off`."""
    if settings.tls == "local":
        return from_authority(layout.authority)
    return from_files(Path(settings.tls_cert_file), Path(settings.tls_key_file))


def prepare_certificate(layout: Layout, settings: Settings, report: Reporter) -> None:
    """Have a certificate in place before the gate starts, or none where there is no TLS.

    Args:
        layout: the environment; its gate is laid out.
        settings: in force.
        report: told what clients have to do about it.

    Raises:
        BadCertificate: there is no good one, not even an earlier one.
    """
    shelf, now = Shelf(layout.gate), datetime.now(UTC)
    if settings.tls == "off":
        shelf.clear()
        return
    if settings.tls == "local" and make_authority(layout.authority, now):
        report.note(f"made a development authority; clients trust {layout.authority / CA}")
    problem = turn(source_of(layout, settings), shelf, now)
    if problem and not shelf.in_place():
        raise BadCertificate(problem)
    if problem:
        report.note(f"{problem}; the last good certificate stays in place")
