"""What Traefik, callers and browsers are told."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.oauth.answers import Told
from control_plane.oauth.app import create_app
from control_plane.oauth.guard import Guard, Trusted
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.keys import KeyRing, Pace
from control_plane.oauth.scopes import Resources, Scopes
from control_plane.oauth.tables import Tables
from control_plane.signed import b64
from tests.support.gate import MAC, sign
from tests.support.mint import BASE, HUB, ISSUER, NOW, Mint, Published

pytestmark = pytest.mark.feature("A11")

MINT = Mint()
LEDGER = f"{BASE}/ledger/mcp"
DESKTOP = {
    "allow": ["ledger_*"],
    "cohort": "",
    "access": "read-only",
    "roots": ["/srv"],
    "hosts": [],
    "oauth": [f"{ISSUER}#desktop"],
}
ANYBODY = {**DESKTOP, "access": "all", "oauth": [ISSUER]}


@dataclass
class Side:
    """The application over a gate's folder, an issuer, and a clock."""

    gate: Path
    published: Published = field(default_factory=lambda: Published([MINT]))
    now: float = NOW
    down: bool = False

    def write(self, **clients: object) -> None:
        """Replace the tables, as the agent does."""
        table = {"clients": clients, "keys": {}}
        self._put("clients.json", table)

    def _put(self, name: str, what: object) -> None:
        spare = self.gate / "tables" / f".{name}.tmp"
        spare.write_text(json.dumps(what))
        spare.rename(self.gate / "tables" / name)

    def issuer(self, _: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=self.published.document)

    def client(self) -> httpx.AsyncClient:
        (self.gate / "tables").mkdir()
        self.write(desktop=DESKTOP, anybody=ANYBODY, keyed={"allow": ["*"], "cohort": ""})
        self._put("services.json", {"services": {"ledger": {}, "search": {}, "hub": {}}})
        self._put("secrets.json", {"mac": [MAC], "services": {}})
        issuer = Issuer(issuer=ISSUER, jwks_url=f"{ISSUER}/keys", scopes={"read": ("ledger_show", "search_*")})
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.issuer))
        trusted = {ISSUER: Trusted(issuer, KeyRing(issuer, http, Pace(), lambda: self.now))}
        resources, scopes, tables = Resources(BASE), Scopes("mcp:{service}"), Tables(self.gate)
        guard = Guard(trusted, tables, resources, scopes, now=lambda: self.now, cache_s=5)
        app = create_app(guard, Told(resources, scopes, (ISSUER,)), tables, trusted)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


@pytest.fixture
async def http(side: Side) -> AsyncIterator[httpx.AsyncClient]:
    async with side.client() as client:
        yield client


async def ask(http: httpx.AsyncClient, token: str, path: str = "/mcp") -> httpx.Response:
    return await http.get("/auth", headers={"Authorization": f"Bearer {token}", "X-Forwarded-Uri": path})


def granted(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body, _, mac = answer.headers["x-tekup-grant"].partition(".")
    assert mac == b64(sign(MAC, body))
    said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return said


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "x-tekup-grant" not in answer.headers
    said = answer.json()
    assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", None, status)
    return str(answer.headers.get("www-authenticate", ""))


async def test_a_good_token_is_a_grant_with_the_rights_of_its_policy_client(http: httpx.AsyncClient) -> None:
    said = granted(await ask(http, MINT.token()))
    assert said == {
        "v": 1, "client": "desktop", "key": "", "allow": ["ledger_*"], "cohort": "", "roots": ["/srv"], "hosts": [],
        "access": "read-only", "subject": said["subject"], "expires": NOW + 630, "within": ["ledger://*", "ledger_*"],
    }  # fmt: skip
    assert len(said["subject"]) == 16


async def test_the_same_token_is_the_same_grant_and_another_user_another_one(
    http: httpx.AsyncClient, side: Side
) -> None:
    one, other = MINT.token(), MINT.token(sub="bob")
    first = (await ask(http, one)).headers["x-tekup-grant"]
    side.now += 6
    assert (await ask(http, one)).headers["x-tekup-grant"] == first
    assert granted(await ask(http, other))["subject"] != granted(await ask(http, one))["subject"]


async def test_the_very_client_goes_before_everybody_of_its_issuer(http: httpx.AsyncClient, side: Side) -> None:
    assert granted(await ask(http, MINT.token(client_id="web")))["client"] == "anybody"
    side.write(desktop=DESKTOP)
    assert not refused(await ask(http, MINT.token(client_id="web")), 403), "no scope would help"


async def test_two_clients_that_claim_the_same_bearers_get_none(http: httpx.AsyncClient, side: Side) -> None:
    side.write(a=DESKTOP, b=DESKTOP)
    refused(await ask(http, MINT.token()), 403)


async def test_a_client_that_makes_no_sense_is_refused_and_nobody_else(http: httpx.AsyncClient, side: Side) -> None:
    side.write(desktop={**DESKTOP, "allow": "x"}, anybody=ANYBODY)
    assert granted(await ask(http, MINT.token()))["client"] == "anybody"


async def test_a_change_of_rights_counts_at_once(http: httpx.AsyncClient, side: Side) -> None:
    token = MINT.token()
    granted(await ask(http, token))
    side.write(desktop={**DESKTOP, "allow": ["search_*"]})
    assert granted(await ask(http, token))["allow"] == ["search_*"]


async def test_a_token_for_a_service_is_good_on_its_path_and_covers_its_names_alone(http: httpx.AsyncClient) -> None:
    token = MINT.token(aud=[LEDGER, "https://elsewhere"], scope="mcp:* read")
    assert granted(await ask(http, token, "/ledger/mcp"))["within"] == ["ledger_*", "ledger://*"]
    refused(await ask(http, token), 401)
    refused(await ask(http, token, "/search/mcp"), 401)
    wide = MINT.token(scope="mcp:* read")
    assert granted(await ask(http, wide, "/search/mcp"))["within"] == ["*"]


async def test_the_issuers_own_scopes_cover_what_its_table_says(http: httpx.AsyncClient) -> None:
    assert granted(await ask(http, MINT.token(scope="read openid")))["within"] == ["ledger_show", "search_*"]
    assert granted(await ask(http, MINT.token(scope=None)))["within"] == []


async def test_a_refused_token_is_challenged_with_what_is_needed(http: httpx.AsyncClient) -> None:
    challenge = refused(await ask(http, MINT.token(exp=NOW - 60), "/ledger/mcp?x=1"), 401)
    assert challenge == (
        'Bearer error="invalid_token", error_description="the token has expired; get a new one", '
        f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/ledger/mcp", scope="mcp:ledger"'
    )
    assert 'error="insufficient_scope"' not in challenge
    assert f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/mcp"' in refused(await ask(http, "x"), 401)


async def test_nothing_of_a_token_is_ever_said_back(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    for token in (
        MINT.token(aud="x"),
        MINT.token(exp=1),
        MINT.token(iss="https://secretive"),
        "SECRETIVE",
        MINT.token(),
    ):
        answer = await ask(http, token)
        said = answer.text + str({**answer.headers, "x-tekup-grant": ""}) + caplog.text
        assert not any(part in said for part in (*token.split("."), "secretive", "alice"))


@pytest.mark.parametrize("sent", [
    [("Authorization", f"Bearer {MINT.token()}")] * 2,
    [("Authorization", f"Bearer {MINT.token()}"), ("Authorization", "Basic eDp5")],
    [],
])  # fmt: skip
async def test_authorization_is_needed_once(http: httpx.AsyncClient, sent: list[tuple[str, str]]) -> None:
    refused(await http.get("/auth", headers=[*sent, ("X-Forwarded-Uri", "/mcp")]), 400)


@pytest.mark.parametrize("value", ["Basic eDp5", "Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer=a", "a.b.c",
                                   "Bearer\ttk_k1_00", "Bearer tk_k1_00", "DPoP a.b.c"])  # fmt: skip
async def test_what_is_no_bearer_of_an_issuer_is_refused(http: httpx.AsyncClient, value: str) -> None:
    refused(await http.get("/auth", headers={"Authorization": value, "X-Forwarded-Uri": "/mcp"}), 401)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/hub/mcp",
        "/mcp/",
        "//mcp",
        "/%6dcp",
        "/ledger/mcp/",
        "*",
        "//[/mcp",
        "//x/mcp",
        "https://x/mcp",
        "/mcp#x",
    ],
)
async def test_a_path_that_leads_nowhere_is_not_found(http: httpx.AsyncClient, path: str) -> None:
    refused(await ask(http, MINT.token(), path), 404)


async def test_decisions_are_remembered_for_seconds_and_not_beyond_the_token(
    http: httpx.AsyncClient, side: Side
) -> None:
    token = MINT.token(exp=NOW + 3)
    granted(await ask(http, token))
    side.now += 32
    granted(await ask(http, token))
    side.now += 1
    refused(await ask(http, token), 401)


async def test_keys_rotate_without_a_refusal(http: httpx.AsyncClient, side: Side) -> None:
    new = Mint(number=1, kid="k2")
    granted(await ask(http, MINT.token()))
    side.published.mints = [MINT, new]
    side.now += 11
    granted(await ask(http, new.token()))
    side.published.mints = [new]
    side.now += 11
    refused(await ask(http, Mint(kid="k3").token()), 401)  # a key that is fetched anew for, and is not there
    refused(await ask(http, MINT.token()), 401)


async def test_without_the_issuers_keys_it_is_nobodys_fault_and_later_may_do(
    http: httpx.AsyncClient, side: Side
) -> None:
    side.down = True
    answer = await ask(http, MINT.token())
    assert refused(answer, 503) == ""
    assert answer.headers["retry-after"]
    side.down = False
    side.now += 11
    granted(await ask(http, MINT.token()))


async def test_without_tables_it_is_too_early(http: httpx.AsyncClient, side: Side) -> None:
    (side.gate / "tables/clients.json").unlink()
    assert (await ask(http, MINT.token())).headers["retry-after"] == "1"
    side.write(desktop=DESKTOP)
    granted(await ask(http, MINT.token()))


WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(("path", "resource", "scopes"), [
    ("", HUB, ["mcp:ledger", "mcp:search"]), ("/mcp", HUB, ["mcp:ledger", "mcp:search"]),
    ("/ledger/mcp", LEDGER, ["mcp:ledger"]),
])  # fmt: skip
async def test_each_resource_is_described(http: httpx.AsyncClient, path: str, resource: str, scopes: list[str]) -> None:
    answer = await http.get(f"{WELL_KNOWN}{path}")
    said = answer.json()
    assert (said["resource"], said["scopes_supported"]) == (resource, scopes)
    assert (said["authorization_servers"], said["bearer_methods_supported"]) == ([ISSUER], ["header"])
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await http.head(f"{WELL_KNOWN}{path}")).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", f"{WELL_KNOWN}/nosuch/mcp", 404), ("GET", f"{WELL_KNOWN}/hub/mcp", 404), ("GET", f"{WELL_KNOWN}/x", 404),
    ("POST", f"{WELL_KNOWN}/mcp", 405), ("GET", "/", 404),
])  # fmt: skip
async def test_what_is_not_there_is_said_as_json(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    refused(await http.request(method, path), status)
