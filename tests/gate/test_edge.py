"""The public entrypoint as strangers meet it: TLS, certificates, bounds on what is sent, ceilings per address."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes

from compose.local.authority import CA, issue, make_authority
from compose.local.certificates import Pair, Shelf
from tests.support.gate import SECRETS, Gate, Load, Maker, close, lay_out, wait_until
from tests.support.wire import Streams, connect, drip, handshake, self_signed, served, trusting

pytestmark = [pytest.mark.local, pytest.mark.feature("A8")]
BODY_BYTES, READ_S, PATIENCE_S = 65_536, 2.0, 20.0
RATE, OPEN = 20, 6
MODERN = Maker.modern()


def furnished(gate: Gate) -> Gate:
    """The gate, started, with one service and the hub."""
    gate.write("tables/secrets.json", json.dumps(SECRETS))
    for name in ("aaaaa1", "ccccc1"):
        gate.backend(name)
    gate.start()
    gate.routes({"alpha": {"alpha_1-0-0": ["aaaaa1"]}, "hub": {"hub_1-0-0": ["ccccc1"]}})
    gate.services({"alpha": {"alpha_1-0-0": 100}, "hub": {"hub_1-0-0": 100}})
    gate.clients({"dev": ["*"]})
    gate.in_force()
    return gate


@dataclass
class Edge:
    """A gate that speaks TLS, and the authority of its certificate."""

    gate: Gate
    authority: Path
    shelf: Shelf

    @property
    def url(self) -> str:
        """The public entrypoint."""
        return self.gate.public

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """What an honest client brings."""
        return trusting(self.authority / CA, *protocols)

    def put(self, pair: Pair) -> None:
        """Have a pair served."""
        self.shelf.put(pair, pair.leaf())
        wait_until(lambda: self._serves(pair), "the new certificate to be served", PATIENCE_S)

    def _serves(self, pair: Pair) -> bool:
        with suppress(ssl.SSLError):
            return served(self.url, "gate.example") == pair.leaf()
        return False

    def renew(self) -> Pair:
        """Have a new leaf of the authority served."""
        pair = issue(self.authority, datetime.now(UTC))
        self.put(pair)
        return pair


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """A gate with TLS and HTTP/3, short of patience and of room for bodies."""
    folder = tmp_path_factory.mktemp("edge")
    make_authority(folder, datetime.now(UTC), "gate.example")
    gate = lay_out(folder / "gate", tls="files", tls_http3=True, gate_read_timeout_s=READ_S, gate_body_bytes=BODY_BYTES)
    gate.verify = trusting(folder / CA)
    gate.http = httpx.Client(timeout=PATIENCE_S, trust_env=False, verify=gate.verify)
    made = Edge(gate, folder, Shelf(gate.folder))
    first = issue(folder, datetime.now(UTC))
    made.shelf.put(first, first.leaf())
    try:
        furnished(gate)
        yield made
    finally:
        close(gate)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate without TLS that allows little to each address, and believes this one about others."""
    gate = lay_out(
        tmp_path_factory.mktemp("narrow") / "gate",
        gate_address_rate=RATE,
        gate_address_connections=OPEN,
        gate_trusted_proxies="127.0.0.1",
    )
    try:
        yield furnished(gate)
    finally:
        close(gate)


def weak(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    """A client's context for one version and some suites, whatever the library thinks of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


# -- which wire


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today_is_spoken(edge: Edge, version: ssl.TLSVersion) -> None:
    with handshake(edge.url, weak(version, "ECDHE+AESGCM")) as connection:
        assert str(connection.version()).replace(".", "_") == version.name


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_older_tls_is_refused(edge: Edge, version: str) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        handshake(edge.url, weak(ssl.TLSVersion[version], "ALL"))


@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"]
)
def test_weak_suites_are_refused(edge: Edge, suite: str) -> None:
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        handshake(edge.url, weak(ssl.TLSVersion.TLSv1_2, suite))


@pytest.mark.parametrize("protocols", [("h2", "http/1.1"), ("http/1.1",)])
def test_the_protocol_is_agreed_on_in_the_handshake(edge: Edge, protocols: tuple[str, ...]) -> None:
    with handshake(edge.url, edge.trust(*protocols)) as connection:
        assert connection.selected_alpn_protocol() == protocols[0]


def test_calls_go_through_over_http_2_and_http_1(edge: Edge) -> None:
    for http2 in (True, False):
        with httpx.Client(http2=http2, verify=edge.trust(), trust_env=False) as client:
            answer = client.post(f"{edge.url}/mcp", headers=MODERN, content=b"{}")
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")


def test_http_3_is_offered_where_it_is_listened_for(edge: Edge) -> None:
    port = int(edge.url.rpartition(":")[2])
    assert f'h3=":{port}"' in edge.gate.call().reply.headers["alt-svc"]
    assert edge.gate.process
    bound = psutil.Process(edge.gate.process.pid).net_connections("udp")
    assert port in {connection.laddr.port for connection in bound if connection.laddr}


def test_plain_http_on_the_port_is_told_so_and_never_served(edge: Edge) -> None:
    for path in ("/mcp", "/alpha/mcp", "/"):
        with httpx.Client(trust_env=False) as client:
            answer = client.post(f"{edge.url.replace('https:', 'http:')}{path}", headers=MODERN, content=b"{}")
        assert answer.status_code == 426
        assert answer.json()["error"]


def test_a_client_that_does_not_trust_the_authority_does_not_connect(edge: Edge) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(edge.url, ssl.create_default_context())


# -- certificates


def test_a_new_certificate_is_served_without_a_restart_and_without_a_lost_call(edge: Edge) -> None:
    assert edge.gate.process
    before = edge.gate.process.pid
    with Load(edge.gate, "/mcp", MODERN) as calls:
        for _ in range(5):
            calls.more(60)
            edge.renew()
        calls.more(60)
    assert calls.lost == {}
    assert edge.gate.process.pid == before
    assert edge.gate.process.poll() is None


def test_who_asks_for_another_name_or_none_is_refused_where_the_certificate_has_names_alone(edge: Edge) -> None:
    edge.put(self_signed("gate.example"))
    try:
        for name in ("other.example", None):
            with pytest.raises(ssl.SSLError):
                served(edge.url, name)
        assert served(edge.url, "gate.example")
    finally:
        edge.renew()
    assert served(edge.url, None)


def test_broken_files_leave_the_last_good_certificate_in_place(edge: Edge, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def source(chain: str, secret: str) -> None:
        key.write_text(secret)
        certificate.write_text(chain)

    def noted(said: str) -> bool:
        return said in edge.shelf.problem()

    first, second = issue(edge.authority, datetime.now(UTC)), issue(edge.authority, datetime.now(UTC))
    source(first.chain, first.key)
    command = ("-m", "compose.local.keep_certificate", str(edge.gate.folder))
    files = ("--certificate", str(certificate), "--key", str(key))
    with subprocess.Popen([sys.executable, *command, *files], stdout=subprocess.DEVNULL) as keeper:
        try:
            wait_until(lambda: served(edge.url) == first.leaf(), "the first certificate", PATIENCE_S)
            for chain, secret, said in (
                ("nonsense", first.key, "no PEM certificate"),
                (second.chain, first.key, "does not belong"),
                (second.chain, "nonsense", "no PEM key"),
            ):
                source(chain, secret)
                wait_until(partial(noted, said), f"{said!r} to be noted", PATIENCE_S)
                assert served(edge.url) == first.leaf()
                assert edge.gate.call().status == 200
            source(second.chain, second.key)
            wait_until(lambda: served(edge.url) == second.leaf(), "the second certificate", PATIENCE_S)
            wait_until(lambda: edge.shelf.problem() == "", "the problem to be over", PATIENCE_S)
        finally:
            keeper.terminate()


# -- what every answer carries


@pytest.mark.parametrize(
    ("path", "headers", "status"), [("/mcp", MODERN, 200), ("/mcp", {}, 401), ("/nowhere", MODERN, 404)]
)
def test_every_answer_carries_the_security_headers(edge: Edge, path: str, headers: dict[str, str], status: int) -> None:
    answer = edge.gate.call(path, headers)
    assert answer.status == status
    sent = answer.reply.headers
    assert sent["strict-transport-security"] == "max-age=31536000"
    assert sent["x-content-type-options"] == "nosniff"
    assert sent["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert sent["referrer-policy"] == "no-referrer"
    assert sent["cache-control"] == "no-store, no-transform"


# -- what may be sent, and how slowly


HEAD = b"POST /mcp HTTP/1.1\r\nHost: gate\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in MODERN.items())


@pytest.mark.parametrize("http2", [True, False])
def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(edge: Edge, http2: bool) -> None:
    with httpx.Client(http2=http2, verify=edge.trust(), trust_env=False) as client:
        for size, status in ((BODY_BYTES, 200), (BODY_BYTES + 1, 413), (10 * BODY_BYTES, 413)):
            answer = client.post(f"{edge.url}/mcp", headers=MODERN, content=b"x" * size)
            assert (size, answer.status_code) == (size, status)
            assert status == 200 or answer.json()["error"]


def test_zeros_before_a_length_hide_nothing(edge: Edge) -> None:
    head = HEAD + f"Content-Length: 000000{BODY_BYTES + 1}\r\n\r\n".encode()
    with handshake(edge.url, edge.trust()) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("http2", [True, False])
def test_headers_that_are_too_long_reach_nobody(edge: Edge, http2: bool) -> None:
    before = edge.gate.seen("ccccc1")["call"]
    with httpx.Client(http2=http2, verify=edge.trust(), trust_env=False) as client:
        try:
            answer = client.post(f"{edge.url}/mcp", headers={**MODERN, "X-Long": "x" * 20_000}, content=b"{}")
            assert answer.status_code == 431
        except httpx.RemoteProtocolError:
            assert http2  # there it is the connection that is ended
    assert edge.gate.seen("ccccc1")["call"] == before


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(HEAD, b"X-More: 1\r\n", id="headers"),
        pytest.param(HEAD + b"Content-Length: 5000\r\n\r\n", b"x", id="body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
    ],
)
def test_slow_callers_are_cut_off_and_nobody_waits_for_them(edge: Edge, head: bytes, piece: bytes) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        slow = [stack.enter_context(handshake(edge.url, edge.trust())) for _ in range(20)]
        dripping = [pool.submit(drip, one, head, piece) for one in slow]
        for _ in range(20):
            assert edge.gate.call().status == 200
        for took_s, said in (one.result() for one in dripping):
            assert took_s < READ_S + PATIENCE_S / 2
            assert not said or said.startswith(b"HTTP/1.1 408")
            assert b"Content-Type: application/json" in said or not said


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01"], ids=["silent", "half a handshake"])
def test_who_does_not_begin_is_cut_off(edge: Edge, first: bytes) -> None:
    with closing(connect(edge.url)) as connection:
        took_s, _ = drip(connection, first, b"")
    assert took_s < READ_S + PATIENCE_S / 2


def test_a_connection_has_so_many_streams_and_no_more(edge: Edge) -> None:
    with closing(Streams(edge.url, edge.trust("h2"))) as streams:
        while not any(isinstance(event, RemoteSettingsChanged) for event in streams.events):
            assert streams.receive()
        (told,) = [event for event in streams.events if isinstance(event, RemoteSettingsChanged)]
        assert told.changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 250


def test_a_rapid_reset_does_not_keep_others_from_being_served(edge: Edge) -> None:
    """2,000 calls on one connection, each reset at once: few begin, and the connection is ended or lives on."""
    before = edge.gate.seen("aaaaa1")["call under way"]
    with closing(Streams(edge.url, edge.trust("h2"))) as streams, suppress(OSError):
        for _ in range(20):
            for _ in range(100):
                streams.wire.reset_stream(streams.open({**MODERN, "X-Test-Delay": "1"}))
            streams.send()
            began = time.monotonic()
            assert edge.gate.call().status == 200
            assert time.monotonic() - began < PATIENCE_S
    wait_until(lambda: edge.gate.seen("aaaaa1")["call under way"] <= before, "nothing to be under way", PATIENCE_S)
    assert edge.gate.call().status == 200


# -- ceilings per address


def answers(gate: Gate, calls: int, address: str = "", **more: str) -> Counter[int]:
    """Statuses of calls made at once, as from an address behind the proxy."""
    headers = {**MODERN, **({"X-Forwarded-For": address} if address else {}), **more}
    with ThreadPoolExecutor(calls) as pool:
        return Counter(pool.map(lambda _: gate.call(headers=headers).status, range(calls)))


def test_an_address_that_calls_too_often_is_told_as_json_and_others_are_served(narrow: Gate) -> None:
    seen: Counter[int] = Counter()
    for _ in range(3 * RATE):
        answer = narrow.call(headers={**MODERN, "X-Forwarded-For": "192.0.2.1"})
        seen[answer.status] += 1
        assert answer.status == 200 or answer.error
    assert seen.keys() == {200, 429}
    assert seen[200] >= RATE
    assert narrow.call(headers={**MODERN, "X-Forwarded-For": "192.0.2.2"}).status == 200
    wait_until(
        lambda: narrow.call(headers={**MODERN, "X-Forwarded-For": "192.0.2.1"}).status == 200, "it again", PATIENCE_S
    )


def test_an_address_has_so_many_calls_open_and_no_more_and_others_are_served(narrow: Gate) -> None:
    seen = answers(narrow, 2 * OPEN, "192.0.2.3", **{"X-Test-Delay": "2"})
    assert seen == {200: OPEN, 429: OPEN}
    assert narrow.call(headers={**MODERN, "X-Forwarded-For": "192.0.2.4"}).status == 200


def test_one_ipv6_network_is_one_address(narrow: Gate) -> None:
    with ThreadPoolExecutor(2 * OPEN) as pool:
        headers = [{**MODERN, "X-Forwarded-For": f"2001:db8::{at}", "X-Test-Delay": "2"} for at in range(1, 2 * OPEN)]
        seen = Counter(pool.map(lambda sent: narrow.call(headers=sent).status, headers))
    assert seen[200] == OPEN


def test_who_is_no_proxy_of_ours_cannot_call_as_another_address(edge: Edge) -> None:
    answer = edge.gate.call(headers={**MODERN, "X-Forwarded-For": "192.0.2.9"})
    assert answer.headers["x-forwarded-for"] == "127.0.0.1"


def test_who_is_refused_at_the_edge_cannot_choose_a_name_for_the_log(tmp_path: Path) -> None:
    gate = lay_out(tmp_path / "gate", gate_address_rate=1)
    forged = {"X-Tekup-Client": "forged", "X-Tekup-Service": "forged", "X-Tekup-Route": "forged"}
    try:
        gate.start()
        assert 429 in {gate.call(headers=forged).status for _ in range(4)}
        assert gate.process
        gate.process.terminate()  # it writes the lines that it still has
        gate.process.wait(PATIENCE_S)
        lines = [line for line in (gate.folder / "traefik.log").read_text().splitlines() if "DownstreamStatus" in line]
        assert len(lines) >= 4
        assert not [line for line in lines if "forged" in line]
    finally:
        close(gate)
