"""The gates' certificate in an environment of containers: by an authority made here, or from files of the operator's.

`setup` puts the first one in place; the container `certificate` of each gate keeps it from then on.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from compose.local.authority import CA, KEY, make_authority
from compose.local.certificates import Shelf
from compose.local.errors import BadCertificate
from compose.local.keep_certificate import Source, from_authority, from_files, keep, turn
from compose.local.log import log
from compose.local.trust import source_of

from .places import GATE_FOLDER, GIVEN, HOSTS, Here, further
from .settings import MACHINES

KEEPER = "certificate"


def make_edge_authority(here: Here, now: datetime) -> None:
    """Make the authority where the certificate is by ours; it speaks for the public name and for the gates."""
    if not _has_authority(here):
        return
    public = urlsplit(here.settings.public_url).hostname or ""
    gate = HOSTS["MCP_GATEWAY_PORT"][0]
    if make_authority(here.layout.authority, now, public, gate, *further(gate, MACHINES)):
        log(
            "made an authority for the gate's certificate; clients have to trust it",
            file=str(here.layout.authority / CA),
        )


def _has_authority(here: Here) -> bool:
    """Operators come by TLS where clients do not, too: something else ends that for clients, and for nobody else."""
    return here.settings.tls == "local" or (here.settings.tls == "off" and here.operators_gate is not None)


def put_certificates(here: Here, now: datetime) -> None:
    """Have a certificate in place before a gate starts, or none where there is no TLS.

    Raises:
        BadCertificate: there is no good one, not even an earlier one.
    """
    for folder in here.gates.values():
        shelf = Shelf(folder, GATE_FOLDER)
        if here.settings.tls == "off":
            shelf.clear()
        else:
            _put(source_of(here.layout, here.settings), shelf, now)
    if here.operators_gate:
        off = here.settings.tls == "off"
        source = from_authority(here.layout.authority) if off else source_of(here.layout, here.settings)
        _put(source, Shelf(here.operators_gate, GATE_FOLDER), now)


def _put(source: Source, shelf: Shelf, now: datetime) -> None:
    problem = turn(source, shelf, now)
    if problem and not shelf.in_place():
        raise BadCertificate(problem)
    if problem:
        log("certificate refused, the last good one stays", problem=problem)


def keep_certificate(here: Here) -> None:
    """Keep the certificate of the one gate whose folder is at `/gate`, for ever; at once over where there is no TLS."""
    if here.settings.tls != "off":
        keep_operators_certificate(here)


def keep_operators_certificate(here: Here) -> None:
    """The same for the gate of operators, which has one in any case."""
    settings = here.settings
    files = settings.tls == "files"
    pair = Path(settings.tls_cert_file), Path(settings.tls_key_file)
    keep(GATE_FOLDER, from_files(*pair) if files else from_authority(GIVEN))


def keeper_files(here: Here) -> Mapping[str, dict[str, str]]:
    """What those who keep the certificate are given: the authority, where it is ours."""
    if not _has_authority(here):
        return {KEEPER: {}} if (here.given / KEEPER).is_dir() else {}
    folder = here.layout.authority
    return {KEEPER: {name: (folder / name).read_text(encoding="ascii") for name in (CA, KEY)}}
