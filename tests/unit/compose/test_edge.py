"""What the public entrypoint is told, from the settings alone."""

from pathlib import Path
from string import Template
from typing import cast

import pytest
import yaml

from compose.local.edge import edge_values
from compose.local.errors import BadSettings
from compose.local.files import repository
from compose.local.layout import Layout
from compose.local.settings import Settings, load

OTHERS = dict.fromkeys(("GATEWAY_ADDRESS", "INTERNAL_ADDRESS", "PRIVATE_ADDRESS", "GATE_DIR"), "127.0.0.1:1") | {
    "ALLOWED_HOSTS": "",
    "ALLOWED_ORIGINS": "",
    "POLICY_MAX_AGE_S": "0",
    "MTLS": "false",
    "OAUTH_ADDRESS": "127.0.0.1:1",
    "OAUTH_RESOURCE": "",
    "OAUTH_SCOPE": "",
    "OPERATORS_SERVERS": "[]",
    "TRACING": "",
}


def rendered(template: str, **settings: object) -> dict[str, object]:
    values = {**OTHERS, **edge_values(Settings.model_validate(settings))}
    found = yaml.safe_load(Template((repository() / "traefik" / template).read_text()).substitute(values))
    assert isinstance(found, dict)
    return found


def chain(**settings: object) -> str:
    return edge_values(Settings.model_validate(settings))["EDGE"]


def test_a_ceiling_that_is_off_is_not_in_the_way() -> None:
    assert chain() == "edge-headers"
    assert chain(gate_address_rate=5) == "edge-headers, edge-refusals, address-rate"
    both = chain(gate_address_rate=5, gate_address_connections=5)
    assert both == "edge-headers, edge-refusals, address-calls, address-rate"


def test_a_burst_is_never_less_than_the_rate() -> None:
    values = edge_values(Settings.model_validate({"gate_address_rate": 50, "gate_address_burst": 10}))
    assert (values["ADDRESS_RATE"], values["ADDRESS_BURST"]) == ("50", "50")


@pytest.mark.parametrize("tls", ["off", "local", "files"])
def test_with_tls_every_router_of_the_public_entrypoint_but_the_one_that_refuses_has_it(tls: str) -> None:
    routers: dict[str, dict[str, object]] = {}
    for template in ("gate.yml.tmpl", "oauth.yml.tmpl", "operators.yml.tmpl"):
        part = rendered(template, tls=tls)["http"]
        assert isinstance(part, dict)
        routers |= part["routers"]
    public = {name: one for name, one in routers.items() if "public" in cast("list[str]", one.get("entryPoints", ()))}
    ours = {"public", "foreign", "resource-metadata"}
    assert public.keys() == ours | ({"plain"} if tls != "off" else set())
    plain = {name for name, one in public.items() if "tls" not in one}
    assert plain == ({"plain"} if tls != "off" else ours)
    if tls != "off":
        assert public["plain"]["priority"] == max(cast("int", one.get("priority", 0)) for one in public.values())


def test_browsers_are_held_to_https_only_where_the_name_is_a_real_one() -> None:
    lives = {tls: edge_values(Settings.model_validate({"tls": tls}))["HSTS_S"] for tls in ("off", "local", "files")}
    assert lives == {"off": "0", "local": "0", "files": "31536000"}


def test_http_3_comes_with_tls_alone() -> None:
    for tls, there in (("off", False), ("local", True)):
        points = rendered("traefik.yml.tmpl", tls=tls, tls_http3=True)["entryPoints"]
        assert isinstance(points, dict)
        assert ("http3" in points["public"]) == there


@pytest.mark.feature("A9")
def test_files_without_their_names_and_names_without_files_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        load(Layout(tmp_path), {"MCP_TLS": "files", "MCP_GATE_TRUSTED_PROXIES": "10.0.0.0/8, here"})
    said = str(caught.value)
    assert "MCP_TLS_CERT_FILE is missing" in said
    assert "MCP_TLS_KEY_FILE is missing" in said
    assert "'here'" in said
    with pytest.raises(BadSettings, match="MCP_TLS is off: set it to files"):
        load(Layout(tmp_path), {"MCP_TLS_CERT_FILE": "/cert.pem"})


@pytest.mark.feature("A9")
def test_where_a_key_is_kept_is_shown(tmp_path: Path) -> None:
    given_files = {"MCP_TLS": "files", "MCP_TLS_CERT_FILE": "/cert.pem", "MCP_TLS_KEY_FILE": "/key.pem"}
    rows = {name: value for name, value, _ in load(Layout(tmp_path), given_files).rows()}
    assert rows["MCP_TLS_KEY_FILE"] == "/key.pem"
