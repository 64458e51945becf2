"""Certificates: which are good, which authority makes them, and what is put in place."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from compose.local.authority import CA, CA_LIFE, KEY, LEAF_LIFE, is_of, issue, make_authority, read_authority
from compose.local.certificate_check import certificate_seen
from compose.local.certificates import Pair, Shelf, judge, names_of, read_pair
from compose.local.errors import BadCertificate
from compose.local.keep_certificate import from_authority, from_files, turn
from compose.local.layout import Layout
from compose.local.settings import Settings
from compose.local.trust import Gateway, gateway
from tests.support.wire import self_signed

pytestmark = pytest.mark.feature("A8")
NOW = datetime.now(UTC).replace(microsecond=0)
"""Of when the tests were read, which in a long run is long ago."""
signed = partial(self_signed, now=NOW)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    folder = tmp_path / ".tekup" / "tls"
    folder.mkdir(parents=True)
    assert make_authority(folder, NOW, "desk-7")
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / ".tekup" / "gate" / "dynamic").mkdir(parents=True)
    return Shelf(tmp_path / ".tekup" / "gate")


def verified(ca: Path, pair: Pair, name: str) -> None:
    """A handshake in memory: raises if a client that trusts the authority would not go on."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=ca)
    files = ca.parent / "leaf.pem"
    files.write_text(pair.chain + pair.key)
    server.load_cert_chain(files)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(down, up, server_hostname=name)
    there = server.wrap_bio(up, down, server_side=True)
    for side in (here, there, here):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


# -- the authority


@pytest.mark.parametrize("name", ["localhost", "desk-7", "127.0.0.1", "::1"])
def test_a_leaf_of_the_authority_is_good_for_every_name_of_this_machine(authority: Path, name: str) -> None:
    pair = issue(authority, NOW)
    assert judge(pair, NOW) == pair.leaf()
    verified(authority / CA, pair, name)


@pytest.mark.parametrize("name", ["example.org", "desk-8"])
def test_the_authority_cannot_speak_for_others_even_if_its_key_is_stolen(authority: Path, name: str) -> None:
    ca, key = read_authority(authority)
    forged = signed(name, issuer=(ca, key))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        verified(authority / CA, forged, name)


def test_the_authoritys_key_is_private_and_the_authority_stays(authority: Path) -> None:
    assert stat.S_IMODE((authority / KEY).stat().st_mode) == 0o600
    before = (authority / CA).read_text()
    assert not make_authority(authority, NOW + timedelta(days=300), "desk-7")
    assert (authority / CA).read_text() == before
    assert make_authority(authority, NOW + CA_LIFE - timedelta(days=20), "desk-7")


def test_a_machine_whose_name_is_no_host_name_is_left_out(authority: Path) -> None:
    (authority / CA).unlink()
    make_authority(authority, NOW, "my_machine!")
    assert names_of(issue(authority, NOW).leaf()) == (["localhost"], ["127.0.0.1", "::1"])


def test_a_damaged_authority_is_named_and_never_replaced_by_itself(authority: Path) -> None:
    (authority / KEY).write_text("nonsense")
    with pytest.raises(BadCertificate, match=f"remove {CA} and {KEY}"):
        make_authority(authority, NOW)


# -- what is good


def test_what_cannot_be_served_is_refused_with_the_reason() -> None:
    good, other = signed("gate.example"), signed("gate.example")
    small = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encrypted = small.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    old = signed("gate.example", life=timedelta(minutes=1))
    early = signed("gate.example", age=-timedelta(hours=1))
    for pair, said in (
        (Pair("nonsense", good.key), "no PEM certificate"),
        (Pair(good.chain, "nonsense"), "no PEM key"),
        (Pair(good.chain, other.key), "does not belong"),
        (Pair(good.chain, encrypted), "encrypted"),
        (Pair(good.chain + other.chain, good.key), "are no chain"),
        (old, "expired"),
        (early, "not valid before"),
        (signed(), "names no host"),
    ):
        with pytest.raises(BadCertificate, match=said):
            judge(pair, NOW)
    assert judge(good, NOW) == good.leaf()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCertificate, match=r"absent\.pem"):
        read_pair(tmp_path / "absent.pem", tmp_path / "absent.key")


# -- what is put in place


def test_what_is_put_in_place_is_private_whole_and_leaves_one_before_it(shelf: Shelf, tmp_path: Path) -> None:
    pairs = [signed("gate.example") for _ in range(3)]
    for pair in pairs:
        shelf.put(pair, pair.leaf())
        assert shelf.in_place() == pair
    left = tmp_path / ".tekup" / "gate" / "certificates"
    assert {path.stem for path in left.iterdir()} == {pairs[1].name, pairs[2].name}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in left.glob("*.key"))
    assert stat.S_IMODE(left.stat().st_mode) == 0o700


def test_names_are_insisted_on_unless_the_certificate_has_addresses(
    shelf: Shelf, authority: Path, tmp_path: Path
) -> None:
    for pair, strict in ((signed("gate.example"), "true"), (issue(authority, NOW), "false")):
        shelf.put(pair, pair.leaf())
        assert f"sniStrict: {strict}" in (tmp_path / ".tekup" / "gate" / "dynamic" / "tls.yml").read_text()


def test_the_last_good_pair_stays_and_the_reason_is_written_down(shelf: Shelf, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    source, good = from_files(certificate, key), signed("gate.example")
    assert "cannot be read" in turn(source, shelf, NOW)
    assert shelf.in_place() is None
    certificate.write_text(good.chain)
    key.write_text(good.key)
    assert turn(source, shelf, NOW) == shelf.problem() == ""
    certificate.write_text("nonsense")
    assert turn(source, shelf, NOW) == shelf.problem() != ""
    assert shelf.in_place() == good


def test_a_leaf_is_made_anew_when_a_third_of_its_life_is_left_or_the_authority_is_another(
    shelf: Shelf, authority: Path
) -> None:
    source = from_authority(authority)
    turn(source, shelf, NOW)
    first = shelf.in_place()
    turn(source, shelf, NOW + LEAF_LIFE / 2)
    assert shelf.in_place() == first
    turn(source, shelf, NOW + LEAF_LIFE * 3 / 4)
    second = shelf.in_place()
    assert second not in (first, None)
    (authority / CA).unlink()
    make_authority(authority, NOW, "desk-7")
    turn(source, shelf, NOW + LEAF_LIFE * 3 / 4)
    third = shelf.in_place()
    assert third
    assert third != second
    assert is_of(authority, third.leaf())


# -- how clients reach it, and what the doctor sees


def test_clients_are_told_the_name_that_the_certificate_is_for(shelf: Shelf, tmp_path: Path) -> None:
    layout, files = Layout(tmp_path), Settings.model_validate({"tls": "files"})
    for names, url in ((("mcp.example.org",), "mcp.example.org"), (("a.example", "localhost"), "localhost"),
                       (("*.example.org",), "mcp.example.org")):  # fmt: skip
        pair = signed(*names)
        shelf.put(pair, pair.leaf())
        assert gateway(layout, files, "127.0.0.1:3000").url == f"https://{url}:3000"
    off = gateway(layout, Settings.model_validate({}), "127.0.0.1:3000")
    assert (off.url, off.direct_url, off.verify()) == ("http://127.0.0.1:3000", "http://127.0.0.1:3000", True)


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCertificate, match=r"absent\.pem"):
        Gateway("127.0.0.1:1", "localhost", tmp_path / "absent.pem").verify()


def faults(tmp_path: Path, settings: dict[str, str], now: datetime = NOW) -> list[str]:
    found = list(certificate_seen(Layout(tmp_path), Settings.model_validate(settings), "", now))
    assert found
    assert all(seen.ok or seen.remedy for seen in found)
    return [seen.said for seen in found if not seen.ok]


def test_the_doctor_names_what_is_wrong_with_files(shelf: Shelf, tmp_path: Path) -> None:
    certificate, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    files = {"tls": "files", "tls_cert_file": str(certificate), "tls_key_file": str(key), "tls_ca_file": str(ca)}
    good, other = signed("gate.example", life=timedelta(days=90)), signed("gate.example")
    certificate.write_text(good.chain)
    key.write_text(good.key)
    ca.write_text(good.chain)
    shelf.put(good, good.leaf())
    assert faults(tmp_path, files) == []
    (soon,) = faults(tmp_path, files, NOW + timedelta(days=75))
    assert "which is soon" in soon
    (expired,) = faults(tmp_path, files, NOW + timedelta(days=91))
    assert "expired" in expired
    ca.write_text(other.chain)
    (untrusted,) = faults(tmp_path, files)
    assert "does not end in" in untrusted
    ca.unlink()
    (unreadable,) = faults(tmp_path, files)
    assert "cannot be read" in unreadable
    key.write_text(other.key)
    (mismatch,) = faults(tmp_path, files)
    assert "does not belong to the certificate; the gate goes on with the last good one" in mismatch


def test_the_doctor_names_a_development_authority_that_ends_or_cannot_be_read(
    shelf: Shelf, authority: Path, tmp_path: Path
) -> None:
    turn(from_authority(authority), shelf, NOW)
    assert faults(tmp_path, {"tls": "local"}) == []
    (ends,) = faults(tmp_path, {"tls": "local"}, NOW + CA_LIFE - timedelta(days=20))
    assert "the development authority ends at" in ends
    (authority / CA).write_text("nonsense")
    (damaged,) = faults(tmp_path, {"tls": "local"})
    assert "cannot be read" in damaged


def test_the_doctor_says_nothing_where_there_is_no_tls(tmp_path: Path) -> None:
    assert not list(certificate_seen(Layout(tmp_path), Settings.model_validate({}), "", NOW))


def test_a_leaf_names_what_it_is_for(authority: Path) -> None:
    leaf = issue(authority, NOW).leaf()
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.not_valid_after_utc == NOW + LEAF_LIFE
