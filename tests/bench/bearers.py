"""What bearers of an authorization server cost: those who have one, and those who have a key."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.bench.environment import Environment, environment
from tests.bench.tools import Row, Side, load_once, process, ratio, spread, wait_until
from tests.support.load import body, headers
from tests.support.mint import Mint
from tests.support.ports import free_ports

WAIT_S = 30.0
TOKEN_S = 3600
SETTLE_S = 1.0
"""Traefik takes the file up, and warms up again."""


def bearers(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """Calls with a key where no bearer is let in, with a key where some are, and with a bearer, in turn."""
    backend, jwks = free_ports(2)
    issuer = f"http://127.0.0.1:{jwks}"
    (folder / "keys.json").write_text(json.dumps({"keys": [Mint().jwk]}))
    (folder / "issuers.json").write_text(json.dumps([{"issuer": issuer, "jwks_url": f"{issuer}/keys.json"}]))
    published = [sys.executable, "-m", "http.server", str(jwks), "--bind", "127.0.0.1", "--directory", str(folder)]
    serving: list[str | Path] = [load, "serve", f"127.0.0.1:{backend}"]
    with (
        process(published, f"{issuer}/keys.json", folder / "jwks.log"),
        process(serving, f"http://127.0.0.1:{backend}/", folder / "serve.log"),
        environment(folder, "--oauth-issuers", str(folder / "issuers.json")) as env,
    ):
        env.introduce()
        env.register("aaaaaa", "1", backend)
        client = {"kind": "Client", "id": "desktop", "oauth": [issuer]}
        env.ask("POST", "/v1/state/apply", {"resources": [client], "reason": "bench"})
        wait_until(env.served, "the service to be served", WAIT_S)
        return _rows(_measured(load, env, issuer, seconds, rounds))


def _side(env: Environment, credential: str) -> Side:
    sent = headers(credential, "tools/call", "bench_echo")
    return Side(f"{env.gateway}/bench/mcp", sent, body("tools/call", {"name": "bench_echo", "arguments": {}}))


def _measured(
    load: Path, env: Environment, issuer: str, seconds: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    now = int(time.time())
    token = Mint().token(iss=issuer, aud=f"{env.gateway}/bench/mcp", scope="mcp:bench", iat=now, exp=now + TOKEN_S)
    letting_in = env.folder / ".tekup" / "gate" / "dynamic" / "oauth.yml"
    aside = env.folder / "oauth.yml"
    found: dict[str, list[dict[str, float]]] = {"alone": [], "key": [], "bearer": []}
    for turn in range(rounds + 1):
        letting_in.rename(aside)
        time.sleep(SETTLE_S)
        runs = {"alone": load_once(load, _side(env, env.key), 16, seconds)}
        aside.rename(letting_in)
        time.sleep(SETTLE_S)
        runs["key"] = load_once(load, _side(env, env.key), 16, seconds)
        runs["bearer"] = load_once(load, _side(env, token), 16, seconds)
        for name, figures in runs.items() if turn else ():
            found[name].append(figures)
    return found


def _rows(found: dict[str, list[dict[str, float]]]) -> list[Row]:
    rows: list[Row] = []
    for what, mine, theirs in (
        ("key where bearers are let in / key where none is", "key", "alone"),
        ("bearer / key", "bearer", "key"),
    ):
        for unit, member in (("calls/s", "per_second"), ("p50 ms", "p50_ms")):
            ours, others = ([run[member] for run in found[name]] for name in (mine, theirs))
            rows.append(
                (f"{what}, {unit}, 16 clients", f"{ratio(ours, others):.2f}x   {spread(ours)} / {spread(others)}")
            )
    return rows
