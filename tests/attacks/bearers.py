"""What judges bearers in the attacked world, and the tokens that are tried: `<<jwt …>>`."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from compose.local.edge import edge_values
from compose.local.settings import Settings
from tests.support.gate import Gate, wait_until
from tests.support.mint import Mint, b64, good, packed
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
ISSUER: Final = "https://id.test"
BASE: Final = "http://gate.test"
STAFF: Final = "staff"
ALICE: Final = f"{STAFF}~{hashlib.sha256(f'{ISSUER}{chr(10)}alice'.encode()).hexdigest()[:16]}"
OURS, OTHER = Mint(), Mint(number=1)
START_S = 180.0


def claims(**otherwise: object) -> dict[str, object]:
    """Of a good token for vault, but for what is given."""
    now = int(time.time())
    own = {"iss": ISSUER, "aud": f"{BASE}/vault/mcp", "scope": "mcp:vault", "iat": now - 5, "exp": now + 3600}
    return good(**{**own, **otherwise})


def _hs256(secret: bytes) -> str:
    text = f"{packed(OURS.header(alg='HS256'))}.{packed(claims())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


def _twice(member: str) -> str:
    payload = json.dumps(claims())[:-1] + f",{member}}}"
    return OURS.signed(packed(OURS.header()), b64(payload.encode()))


def _without(claim: str) -> str:
    return OURS.signed(packed(OURS.header()), packed(claims(**{claim: None})))


def _cut() -> str:
    return OURS.token(**claims()).rpartition(".")[0] + "."


TOKENS: Final[dict[str, Callable[[], str]]] = {
    "good": lambda: OURS.token(**claims()),
    "without a scope": lambda: OURS.token(**claims(scope="")),
    "with another service in scope": lambda: OURS.token(**claims(scope="mcp:attic")),
    "for the hub": lambda: OURS.token(**claims(aud=f"{BASE}/mcp")),
    "alg none": lambda: f"{packed(OURS.header(alg='none'))}.{packed(claims())}.AA",
    "alg none and no signature": lambda: f"{packed(OURS.header(alg='none'))}.{packed(claims())}.",
    "hs256 with the public key": lambda: _hs256(OURS.pem),
    "hs256 with the published key": lambda: _hs256(json.dumps(OURS.jwk).encode()),
    "hs256 with nothing": lambda: _hs256(b""),
    "signed with another key": lambda: OTHER.token(**claims()),
    "with its own key in jwk": lambda: OTHER.token({"jwk": OTHER.jwk}, **claims()),
    "with its own key by jku": lambda: OTHER.token({"jku": "http://127.0.0.1:9/jwks"}, **claims()),
    "with its own key by x5u": lambda: OTHER.token({"x5u": "http://127.0.0.1:9/cert"}, **claims()),
    "with a path for kid": lambda: OURS.token({"kid": "../../../dev/null"}, **claims()),
    "with an unknown kid": lambda: OURS.token({"kid": "k9"}, **claims()),
    "with crit": lambda: OURS.token({"crit": ["b64"], "b64": False}, **claims()),
    "of another kind": lambda: OURS.token({"typ": "logout+jwt"}, **claims()),
    "of another issuer": lambda: OURS.token(**claims(iss="https://evil.test")),
    "for another resource": lambda: OURS.token(**claims(aud="https://elsewhere.test/mcp")),
    "for another service": lambda: OURS.token(**claims(aud=f"{BASE}/attic/mcp", scope="mcp:*")),
    "for its client": lambda: OURS.token(**claims(aud="desktop")),
    "expired": lambda: OURS.token(**claims(exp=int(time.time()) - 60)),
    "never expiring": lambda: _without("exp"),
    "expiring at a text": lambda: OURS.token(**claims(exp="9999999999")),
    "not valid yet": lambda: OURS.token(**claims(nbf=int(time.time()) + 600)),
    "bound to a key": lambda: OURS.token(**claims(cnf={"jkt": "x"})),
    "on nobody's behalf": lambda: _without("sub"),
    "with aud twice": lambda: _twice('"aud":"https://elsewhere.test"'),
    "with scope twice": lambda: _twice('"scope":"mcp:*"'),
    "without its signature": _cut,
}


def token(what: str) -> str:
    """A token by its name."""
    return {name.replace("'", ""): make for name, make in TOKENS.items()}[what]()


def start(gate: Gate, folder: Path) -> Path:
    """Run the app and an issuer that publishes its keys, and have the gate ask; before Traefik starts.

    Returns:
        The app's log.
    """
    app, jwks = free_port(), free_port()
    public = folder / "published"
    public.mkdir()
    (public / "keys.json").write_text(json.dumps({"keys": [OURS.jwk]}))
    issuers = folder / "issuers.json"
    issuers.write_text(json.dumps([{"issuer": ISSUER, "jwks_url": f"http://127.0.0.1:{jwks}/keys.json"}]))
    publishing = ["-m", "http.server", str(jwks), "--bind", "127.0.0.1", "--directory", str(public)]
    _run(gate, "issuer", jwks, publishing, {}, folder / "published.txt")
    env = {
        "MCP_PORT": str(app),
        "MCP_GATE_DIR": str(gate.folder),
        "MCP_PUBLIC_URL": BASE,
        "MCP_OAUTH_ISSUERS_FILE": str(issuers),
        "MCP_LOG_LEVEL": "debug",
    }
    log = folder / "oauth.log"
    _run(gate, "oauth", app, ["-m", "control_plane.oauth"], env, log)
    wait_until(lambda: _ready(app), f"bearers are judged; see {log}", START_S)
    values = {
        "GATE_DIR": str(gate.folder),
        "ALLOWED_HOSTS": '"gate.test"',
        "ALLOWED_ORIGINS": "",
        "POLICY_MAX_AGE_S": "0",
        "OAUTH_ADDRESS": f"127.0.0.1:{app}",
        "OAUTH_RESOURCE": BASE,
        "OAUTH_SCOPE": "mcp:{service}",
        **edge_values(Settings.model_validate({})),
    }
    template = (ROOT / "traefik" / "oauth.yml.tmpl").read_text()
    gate.write("dynamic/oauth.yml", string.Template(template).substitute(values))
    return log


def _run(gate: Gate, name: str, port: int, arguments: list[str], env: dict[str, str], log: Path) -> None:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, *arguments], env=given, cwd=ROOT, stdout=out, stderr=out)
    gate.backends[name] = (port, process)


def _ready(port: int) -> bool:
    try:
        issuers = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).json()["issuers"]
    except httpx.HTTPError:
        return False
    return bool(issuers == {ISSUER: ""})
