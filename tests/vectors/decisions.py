"""Writes `decisions.json`: what the gate must do with a call, one row a call, over one small world of tables.

The rows are read twice: by the Go tests of the decision code, and by tests/gate, which sends them through the real
Traefik. Both are needed: the interpreter that runs the plugin there does not agree with the Go compiler everywhere.

    python -m tests.vectors.decisions > tests/vectors/decisions.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from base64 import b64encode
from collections.abc import Iterator

from tests.vectors.generate import b64, grant, handle, mac, payload

MAC, OLD_MAC = "0a" * 32, "0c" * 32
SECRETS = {
    "mac": [MAC, OLD_MAC],
    "services": {
        "alpha": ["a1" * 32, "a0" * 32],
        "beta": ["b1" * 32],
        "hub": ["d1" * 32],
        "control-plane": ["c1" * 32],
        "down": ["e1" * 32],
        "delta": ["f1" * 32],
        "eps": ["f2" * 32],
    },
}
SECRET = {"alpha": "a1" * 32, "beta": "b1" * 32, "hub": "d1" * 32, "control-plane": "c1" * 32, "delta": "f1" * 32}
RIGHTS: dict[str, list[str]] = {
    "dev": ["*"],
    "narrow": ["alpha_read*", "alpha://docs/*"],
    "nobody": [],
    "gone": ["*"],
    "late": ["*"],
    "soon": ["*"],
    "tester": ["*"],
    "watched": ["*"],
    "team": ["alpha_*", "alpha://*", "beta_ask"],
}
ISSUER = "https://as.example"
USER = "0123456789abcdef"
COHORTS = {"tester": "testers", "watched": "watched"}
KEYS = {name: f"tk_{name}-1_{hashlib.sha256(name.encode()).hexdigest()[:48]}" for name in [*RIGHTS, "orphan"]}
OLD_KEY = "tk_dev-0_" + "9f" * 24
V1, V2, BETA, HUB = "alpha_1-0-0", "alpha_1-1-0", "beta_2-0", "hub_0-1-0"
D1, D2, E1, E2 = "delta_1-0-0", "delta_2-0-0", "eps_1", "eps_2"
SALT = "eps-7"
INSTANCES = {"aaaaa1": f"{V1}_aaaaa1", "aaaaa3": f"{V2}_aaaaa3"}
RANDOM = bytes(range(16))

Pairs = list[list[str]]


def world() -> dict[str, object]:
    """The three tables."""
    services = {
        "alpha": entry(V1, {V1: 90, V2: 10}, INSTANCES),
        "beta": entry(BETA, {BETA: 100}),
        "hub": entry(HUB, {HUB: 100}),
        "down": entry("", {}),
        "unproven": entry("unproven_1", {"unproven_1": 100}),
        "delta": entry(D1, {D1: 100}, {"aaaaa1": f"{D1}_aaaaa1"}) | {"rules": delta_rules()},
        # The canary's lane stands last here, and is drawn from the low end all the same.
        "eps": entry(E1, {E1: 60, E2: 40}) | {"split": "client", "salt": SALT},
    }
    keys = {f"{name}-1": key(name, KEYS[name]) for name in KEYS}
    keys["dev-0"] = key("dev", OLD_KEY)
    keys["gone-1"]["revoked"] = 1_700_000_000
    keys["late-1"]["expires"] = 1_700_000_000
    keys["soon-1"]["expires"] = 4_000_000_000
    clients: dict[str, dict[str, object]] = {
        name: {"allow": allow, "cohort": COHORTS.get(name, "")} for name, allow in RIGHTS.items()
    }
    clients["team"] |= {"oauth": [ISSUER], "access": "all", "roots": [], "hosts": []}
    at = {"serial": 1, "epoch": 1, "number": 1}
    return {
        "services": {**at, "services": services},
        "clients": {**at, "clients": clients, "keys": keys},
        "secrets": SECRETS,
    }


def entry(stable: str, lanes: dict[str, float], instances: dict[str, str] | None = None) -> dict[str, object]:
    """A service's object."""
    weights = [{"target": target, "weight_pct": weight} for target, weight in lanes.items()]
    return {"stable": stable, "lanes": weights, "split": "request", "instances": instances or {}}


def delta_rules() -> list[dict[str, object]]:
    """Rules of every kind; each leads to one target, so that a row can say which."""

    def rule(name: str, target: str, tools: list[str], cohort: str = "") -> dict[str, object]:
        return {"name": name, "tools": tools, "cohort": cohort, "lanes": [{"target": target, "weight_pct": 100}]}

    return [
        rule("writes", D2, ["delta_write*", "delta://docs/*"]),
        rule("never", D1, ["delta_write_all"]),
        rule("looks", f"{D1}~{D2}", ["delta_look"]),
        rule("testers", D2, [], "testers"),
        rule("watched", f"{D1}~{D2}", [], "watched"),
    ]


def point(salt: str, client: str) -> float:
    """A client's point in 0-1, as docs/contracts.md has it."""
    head = hashlib.sha256(f"{salt}/{client}".encode()).digest()[:8]
    return (int.from_bytes(head) >> 11) / 2**53


def draws() -> list[dict[str, object]]:
    """Points of clients; the last is nobody's, but a caller's own."""
    pairs = [("", "dev"), (SALT, "dev"), ("a.b-C", "dev"), (SALT, "narrow"), (SALT, "a" * 63), (SALT, "~hub")]
    return [{"salt": salt, "client": client, "point": point(salt, client)} for salt, client in pairs]


def key(client: str, text: str) -> dict[str, object]:
    """A key's object, its grant made from the client's rights."""
    name = text.split("_")[1]
    made = grant(MAC, payload(client, name, RIGHTS.get(client, []), cohort=COHORTS.get(client, "")))
    return {
        "client": client,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "expires": 0,
        "revoked": 0,
        "grant": made,
    }


def modern(method: str, name: str = "", client: str = "dev") -> Pairs:
    """Headers of a call of the modern era."""
    pairs = [
        ["Authorization", f"Bearer {KEYS[client]}"],
        ["MCP-Protocol-Version", "2026-07-28"],
        ["Mcp-Method", method],
    ]
    return pairs + ([["Mcp-Name", name]] if name else [])


def legacy(version: str = "2025-11-25", client: str = "dev") -> Pairs:
    """Headers of a call of the legacy era."""
    pairs = [["Authorization", f"Bearer {KEYS[client]}"]]
    return pairs + ([["MCP-Protocol-Version", version]] if version else [])


def proven(caller: str) -> Pairs:
    """A caller's proof."""
    return [["X-Tekup-Caller", caller], ["X-Tekup-Proof", mac(SECRET[caller], "caller").hex()]]


def inside(method: str, name: str = "", client: str = "", caller: str = "hub") -> Pairs:
    """Headers of a call on the internal entrypoint, with a client's grant or for the caller itself."""
    own = [["X-Tekup-Grant", key(client, KEYS[client])["grant"]]] if client else []
    return proven(caller) + modern(method, name)[1:] + own  # type: ignore[operator]


def sentinel(text: str) -> str:
    """A value as clients encode what no header can carry."""
    return f"=?base64?{b64encode(text.encode()).decode()}?="


def passes(
    case: str, path: str, headers: Pairs, service: str, reason: str, targets: list[str], **more: object
) -> dict[str, object]:
    """A row that reaches a target."""
    expect: dict[str, object] = {
        "client": "dev",
        "service": service,
        "reason": reason,
        "targets": targets,
        "scope": "",
    } | more
    expect.setdefault("key", f"{expect['client']}-1")
    return {"case": case, "role": "public", "method": "POST", "path": path, "headers": headers, "expect": expect}


def stops(
    case: str, path: str, headers: Pairs, status: int, reason: str, says: str, **more: object
) -> dict[str, object]:
    """A row that the gate answers itself."""
    expect: dict[str, object] = {"status": status, "code": status, "reason": reason, "says": says} | more
    return {"case": case, "role": "public", "method": "POST", "path": path, "headers": headers, "expect": expect}


def internal(row: dict[str, object]) -> dict[str, object]:
    """The row, sent to the internal entrypoint."""
    return row | {"role": "internal"}


def by(method: str, row: dict[str, object]) -> dict[str, object]:
    """The row, with another HTTP method."""
    return row | {"method": method}


def paths() -> Iterator[dict[str, object]]:
    """Step 1: where and how."""
    call = modern("tools/list")
    for path in (
        "/",
        "/mcp/",
        "/alpha",
        "/alpha/mcp/x",
        "/Alpha/mcp",
        "/alpha_x/mcp",
        "/hub/mcp",
        "/tekup/services",
        "/mcp%2f",
    ):
        yield stops(f"path {path}", path, call, 404, "path", "/mcp")
    yield stops("a service nobody knows", "/gamma/mcp", call, 404, "path", "gamma", client="dev")
    for method in ("GET", "DELETE", "PUT", "OPTIONS"):
        yield by(method, stops(f"{method} is not answered", "/mcp", call, 405, "method", method))
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://"):
        yield stops(f"origin {origin}", "/mcp", [*call, ["Origin", origin]], 403, "origin", "Origin")
    yield stops(
        "two origins",
        "/mcp",
        [*call, ["Origin", "http://localhost"], ["Origin", "http://evil.example"]],
        403,
        "origin",
        "Origin",
    )
    for origin in ("http://localhost:6274", "https://127.0.0.1", "http://[::1]:80"):
        yield passes(f"origin {origin}", "/mcp", [*call, ["Origin", origin]], "hub", "stable", [HUB])
    yield passes("a query is not handed on", "/mcp?x=1", call, "hub", "stable", [HUB])


def eras() -> Iterator[dict[str, object]]:
    """Which era, and what is believed."""
    for version in ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", ""):
        yield passes(f"legacy {version or 'without a version'}", "/mcp", legacy(version), "hub", "legacy", [HUB])
    yield passes("legacy with a path's scope", "/alpha/mcp", legacy(), "hub", "legacy", [HUB], scope="alpha")
    spoofed = [
        *legacy(),
        ["Mcp-Method", "tools/list"],
        ["Mcp-Name", "alpha_read"],
        ["Mcp-Session-Id", "1"],
        ["Mcp-Param-Handle", "x"],
    ]
    gone = ["mcp-method", "mcp-name", "mcp-session-id", "mcp-param-handle"]
    yield passes("legacy: mirrored headers are dropped", "/mcp", spoofed, "hub", "legacy", [HUB], gone=gone)
    twice = [*legacy(), ["Mcp-Method", "a"], ["Mcp-Method", "b"]]
    yield passes("legacy: even repeated ones", "/mcp", twice, "hub", "legacy", [HUB], gone=["mcp-method"])
    yield passes(
        "legacy: rights are asked when it comes back",
        "/mcp",
        legacy(client="nobody"),
        "hub",
        "legacy",
        [HUB],
        client="nobody",
    )
    for version in ("2026-07-29", "2025-11-25, 2026-07-28", "2026-07-28 ;x", "DRAFT"):
        row = stops(f"version {version}", "/mcp", legacy(version), 400, "version", "MCP-Protocol-Version", code=-32022)
        yield row
    for first, second in (("2025-11-25", "2026-07-28"), ("2026-07-28", "2025-11-25"), ("2026-07-28", "2026-07-28")):
        headers = [
            *modern("tools/call", "alpha_read")[:1],
            ["MCP-Protocol-Version", first],
            ["MCP-Protocol-Version", second],
        ]
        yield header_error(f"versions {first} and {second}", headers, "once")


def header_error(case: str, headers: Pairs, says: str, path: str = "/mcp", **more: object) -> dict[str, object]:
    """A row answered with HeaderMismatch."""
    return stops(case, path, headers, 400, "header", says, code=-32020, **more)


def names() -> Iterator[dict[str, object]]:
    """Mirrored headers and what they lead to."""
    call = modern("tools/call", "alpha_read")
    yield header_error("no method", modern("")[:2], "Mcp-Method")
    for method in ("tools/call", "prompts/get", "resources/read"):
        yield header_error(f"{method} without a name", modern(method), "Mcp-Name")
    yield header_error("name twice", [*call, ["Mcp-Name", "alpha_read"]], "Mcp-Name")
    yield header_error("method twice", [*call, ["Mcp-Method", "tools/list"]], "Mcp-Method")
    yield header_error("parameter twice", [*call, ["Mcp-Param-Page", "1"], ["Mcp-Param-Page", "2"]], "Mcp-Param-Page")
    for text in ("=?base64?!?=", "=?base64?YWxwaGFfcmVhZB==?=", "=?base64?YQ?=", "=?base64?/w==?="):
        yield header_error(f"undecodable name {text}", modern("tools/call", text), "Mcp-Name")
    yield header_error("undecodable handle", [*call, ["Mcp-Param-Handle", "=?base64?!?="]], "Mcp-Param-Handle")
    yield header_error("an empty name, encoded", modern("tools/call", "=?base64??="), "missing")
    both = [V1, V2]
    yield passes("tool by its prefix", "/mcp", call, "alpha", "lane", both)
    yield passes("tool by its path", "/alpha/mcp", call, "alpha", "lane", both)
    yield passes("prompt by its prefix", "/mcp", modern("prompts/get", "beta_ask"), "beta", "lane", [BETA])
    yield passes("resource by its scheme", "/mcp", modern("resources/read", "alpha://docs/a_b"), "alpha", "lane", both)
    yield passes(
        "an encoded name is decoded", "/mcp", modern("tools/call", sentinel("alpha_read")), "alpha", "lane", both
    )
    yield passes(
        "a service nobody knows is the hub's to refuse", "/mcp", modern("tools/call", "gamma_x"), "hub", "lane", [HUB]
    )
    yield passes("a name without a prefix, too", "/mcp", modern("tools/call", "read"), "hub", "lane", [HUB])
    for name in ("beta_read", "read", "beta://x", "alphax_read", sentinel("beta_read")):
        yield header_error(
            f"{name} on alpha's path", modern("tools/call", name), "alpha", "/alpha/mcp", client="dev", service="alpha"
        )
    yield passes(
        "a name where none belongs is not read", "/alpha/mcp", modern("tools/list", "beta_x"), "alpha", "stable", [V1]
    )
    for method in ("tools/list", "prompts/list", "resources/templates/list", "server/discover"):
        yield passes(
            f"{method} on a path is the stable version's", "/alpha/mcp", modern(method), "alpha", "stable", [V1]
        )
        yield passes(f"{method} on /mcp is the hub's", "/mcp", modern(method), "hub", "stable", [HUB])
    yield passes(
        "subscriptions are the hub's", "/alpha/mcp", modern("subscriptions/listen"), "hub", "lane", [HUB], scope="alpha"
    )
    yield passes("completion goes by the lanes", "/alpha/mcp", modern("completion/complete"), "alpha", "lane", both)
    yield stops(
        "no instance lives", "/down/mcp", modern("tools/list"), 503, "no_target", "down", client="dev", service="down"
    )
    yield stops(
        "no key to prove with",
        "/unproven/mcp",
        modern("tools/list"),
        503,
        "no_secret",
        "unproven",
        client="dev",
        service="unproven",
    )


def keys() -> Iterator[dict[str, object]]:
    """Step 2: who."""
    rest = modern("tools/list")[1:]

    def bearing(value: str) -> Pairs:
        return [["Authorization", value], *rest]

    yield stops("no key", "/mcp", rest, 401, "no_key", "Authorization")
    yield stops("no key, legacy", "/mcp", [], 401, "no_key", "Authorization")
    yield stops(
        "keys twice",
        "/mcp",
        [*bearing(f"Bearer {KEYS['dev']}"), ["Authorization", f"Bearer {KEYS['dev']}"]],
        401,
        "no_key",
        "once",
    )
    for value in ("Basic ZGV2Og==", "Bearer", KEYS["dev"]):
        yield stops(f"no bearer: {value[:8]}", "/mcp", bearing(value), 401, "no_key", "Bearer tk_")
    wrong = KEYS["dev"][:-1] + ("0" if KEYS["dev"][-1] != "0" else "1")
    other = KEYS["dev"].replace("dev-1", "narrow-1")
    for case, value in (
        ("wrong", wrong),
        ("of another id", other),
        ("unknown", "tk_x_" + "0" * 48),
        ("foreign", "sk-123"),
        ("longer", KEYS["dev"] + "0"),
    ):
        yield stops(f"key {case}", "/mcp", bearing(f"Bearer {value}"), 401, "wrong_key", "not known")
    yield stops(
        "key revoked", "/mcp", modern("tools/list", client="gone"), 401, "revoked_key", "revoked", client="gone"
    )
    yield stops("key revoked, legacy", "/mcp", legacy(client="gone"), 401, "revoked_key", "revoked", client="gone")
    yield stops(
        "key expired", "/mcp", modern("tools/list", client="late"), 401, "expired_key", "expired", client="late"
    )
    yield stops(
        "key of no client", "/mcp", modern("tools/list", client="orphan"), 401, "no_client", "orphan", client="orphan"
    )
    yield passes(
        "key that will expire", "/mcp", modern("tools/list", client="soon"), "hub", "stable", [HUB], client="soon"
    )
    yield passes("a second key of a client", "/mcp", bearing(f"Bearer {OLD_KEY}"), "hub", "stable", [HUB], key="dev-0")
    yield passes("the scheme in any case", "/mcp", bearing(f"bEARER  {KEYS['dev']}"), "hub", "stable", [HUB])


def rights() -> Iterator[dict[str, object]]:
    """Step 4: may it."""
    for name in ("alpha_read", "alpha_read_file"):
        yield passes(
            f"{name} is allowed",
            "/mcp",
            modern("tools/call", name, "narrow"),
            "alpha",
            "lane",
            [V1, V2],
            client="narrow",
        )
    yield passes(
        "resource is allowed",
        "/mcp",
        modern("resources/read", "alpha://docs/x", "narrow"),
        "alpha",
        "lane",
        [V1, V2],
        client="narrow",
    )
    yield passes(
        "the hub's own tools need no right",
        "/mcp",
        modern("tools/call", "hub_find_tools", "narrow"),
        "hub",
        "lane",
        [HUB],
        client="narrow",
    )
    disguised = [
        "alpha_write",
        "beta_read",
        "Alpha_read",
        "xalpha_read",
        "alpha_rea",
        "alpha://other",
        "alpha://docs",
        sentinel("alpha_write"),
        "read",
    ]
    for name in disguised:
        service = (
            "beta" if name.startswith("beta") else "hub" if name in ("read", "Alpha_read", "xalpha_read") else "alpha"
        )
        headers = modern("tools/call", name, "narrow")
        yield stops(f"{name} is refused", "/mcp", headers, 403, "right", "narrow", client="narrow", service=service)
    yield stops(
        "no right at all",
        "/mcp",
        modern("tools/call", "alpha_read", "nobody"),
        403,
        "right",
        "alpha_read",
        client="nobody",
        service="alpha",
    )
    yield passes(
        "lists are free", "/alpha/mcp", modern("tools/list", client="nobody"), "alpha", "stable", [V1], client="nobody"
    )


def handles() -> Iterator[dict[str, object]]:
    """Step 5."""
    call, both = modern("tools/call", "alpha_read"), [V1, V2]

    def holding(value: str) -> Pairs:
        return [*call, ["Mcp-Param-Handle", value]]

    good = handle(SECRET["alpha"], "aaaaa3", RANDOM, "dev")
    yield passes("its own handle", "/mcp", holding(good), "alpha", "handle", [INSTANCES["aaaaa3"]])
    yield passes("encoded", "/mcp", holding(sentinel(good)), "alpha", "handle", [INSTANCES["aaaaa3"]])
    old = handle("a0" * 32, "aaaaa1", RANDOM, "dev")
    yield passes("made with the previous key", "/mcp", holding(old), "alpha", "handle", [INSTANCES["aaaaa1"]])
    for case, value in (
        ("of another client", handle(SECRET["alpha"], "aaaaa3", RANDOM, "narrow")),
        ("of another service", handle(SECRET["beta"], "aaaaa3", RANDOM, "dev")),
        ("forged", f"aaaaa3.{b64(RANDOM)}.{'A' * 22}"),
        ("of an instance that is gone", handle(SECRET["alpha"], "ffffff", RANDOM, "dev")),
        ("cut", good[:-1]),
        ("without a tag", good.rsplit(".", 1)[0]),
    ):
        yield passes(f"a handle {case} pins nothing", "/mcp", holding(value), "alpha", "lane", both)


def spoofs() -> Iterator[dict[str, object]]:
    """What a client must not be able to say."""
    said = ["Client", "Grant", "Gate", "Service", "Route", "Scope", "Target", "Caller", "Proof", "Anything"]
    headers = [*modern("tools/list"), *[[f"X-Tekup-{name}", "evil"] for name in said]]
    gone = ["x-tekup-scope", "x-tekup-target", "x-tekup-caller", "x-tekup-proof", "x-tekup-anything"]
    yield passes("our headers are set anew", "/alpha/mcp", headers, "alpha", "stable", [V1], gone=gone)
    lower = [*modern("tools/list"), ["x-tekup-route", "beta_2-0"], ["X-TEKUP-CLIENT", "narrow"]]
    yield passes("in any case", "/alpha/mcp", lower, "alpha", "stable", [V1])
    dropping = [*modern("tools/list"), ["Connection", "X-Tekup-Grant, X-Tekup-Client, X-Tekup-Gate"]]
    yield passes("Connection cannot drop ours", "/alpha/mcp", dropping, "alpha", "stable", [V1])
    pinned = [*proven("control-plane"), *modern("tools/list"), ["X-Tekup-Target", V2]]
    yield passes("a proof is worth nothing outside", "/alpha/mcp", pinned, "alpha", "stable", [V1])
    yield stops("a grant is no key outside", "/mcp", inside("tools/list", client="dev"), 401, "no_key", "Authorization")


def within() -> Iterator[dict[str, object]]:
    """Step 0: the internal entrypoint."""
    path, both = "/alpha/mcp", [V1, V2]
    call = inside("tools/call", "alpha_read", "dev")
    yield passes(
        "a client's call by its grant", path, call, "alpha", "lane", both, gone=["x-tekup-proof", "x-tekup-caller"]
    )
    yield passes("the hub's own list", path, inside("tools/list"), "alpha", "stable", [V1], client="~hub", key="")
    yield passes(
        "the control plane's probe",
        path,
        inside("tools/call", "alpha_x", caller="control-plane"),
        "alpha",
        "lane",
        both,
        client="~control-plane",
        key="",
    )
    pin = [*inside("tools/list"), ["X-Tekup-Target", V2]]
    yield passes("a pinned target", path, pin, "alpha", "pinned", [V2], client="~hub", key="")
    yield passes(
        "pinned for a client",
        path,
        [*call, ["X-Tekup-Target", INSTANCES["aaaaa1"]]],
        "alpha",
        "pinned",
        [INSTANCES["aaaaa1"]],
    )
    for target in ("beta_2-0", "alpha", "alpha_", "alpha_1_2_3", "alpha_1/x", ""):
        yield header_error(
            f"pinned to {target!r}",
            [*inside("tools/list"), ["X-Tekup-Target", target]],
            "X-Tekup-Target",
            path,
            client="~hub",
            service="alpha",
        )
    tampered = inside("tools/list")
    tampered[1] = ["X-Tekup-Proof", mac(SECRET["hub"], "gate").hex()]
    for case, headers in (
        ("no proof", modern("tools/list")),
        ("a wrong proof", tampered),
        ("another's proof", [["X-Tekup-Caller", "control-plane"], *inside("tools/list")[1:]]),
        ("a service's proof", [*proven("alpha"), *modern("tools/list")[1:]]),
        ("a proof twice", [*proven("hub"), *inside("tools/list")]),
    ):
        yield stops(case, path, headers, 403, "unproven", "hub and control-plane")
    yield stops("not to the hub", "/hub/mcp", inside("tools/list"), 404, "path", "/hub/mcp")
    yield stops("not to all", "/mcp", inside("tools/list"), 404, "path", "/<service>/mcp")
    yield stops("a version of old", path, proven("hub") + legacy(), 400, "version", "2025-11-25", code=-32022)
    yield stops("no version", path, proven("hub"), 400, "version", "MCP-Protocol-Version", code=-32022)
    yield stops(
        "the hub's own call",
        path,
        inside("tools/call", "alpha_read"),
        403,
        "right",
        "X-Tekup-Grant",
        client="~hub",
        service="alpha",
    )
    yield from grants(path)


def grants(path: str) -> Iterator[dict[str, object]]:
    """What a grant is worth."""
    own = {"client": "~hub", "service": "alpha"}

    def holding(*values: str) -> Pairs:
        return [*inside("tools/call", "alpha_read"), *[["X-Tekup-Grant", value] for value in values]]

    good = str(key("dev", KEYS["dev"])["grant"])
    wide = grant(MAC, payload("narrow", "narrow-1", ["*"]))
    old = grant(OLD_MAC, payload("dev", "dev-1", ["*"]))
    yield passes(
        "signed with the previous key: the table's grant travels on", path, holding(old), "alpha", "lane", [V1, V2]
    )
    yield stops(
        "the table's rights count, not the grant's",
        path,
        [*inside("tools/call", "alpha_write"), ["X-Tekup-Grant", wide]],
        403,
        "right",
        "narrow",
        client="narrow",
        service="alpha",
    )
    for client, reason, says in (
        ("gone", "revoked_key", "revoked"),
        ("late", "expired_key", "expired"),
        ("orphan", "no_client", "orphan"),
    ):
        headers = inside("tools/call", "alpha_read", client)
        yield stops(f"grant of a key {says}", path, headers, 401, reason, says, **own)
    for case, value in (
        ("of a key nobody knows", grant(MAC, payload("dev", "dev-9", ["*"]))),
        ("of another client's key", grant(MAC, payload("dev", "narrow-1", ["*"]))),
    ):
        yield stops(f"grant {case}", path, holding(value), 401, "wrong_key", "not known", **own)
    for case, value in (
        ("forged", grant("ff" * 32, payload("dev", "dev-1", ["*"]))),
        ("cut", good[:-1]),
        ("empty", ""),
        ("garbage", "x.y"),
        ("too long", "A" * 5000),
    ):
        yield stops(f"grant {case}", path, holding(value), 401, "wrong_grant", "not signed", **own)
    yield stops("two grants", path, holding(good, good), 401, "wrong_grant", "once", **own)


def rules() -> Iterator[dict[str, object]]:
    """Step 6: the first rule that matches, and what no rule touches."""
    path, both = "/delta/mcp", f"{D1}~{D2}"

    def goes(case: str, headers: Pairs, reason: str, target: str, **more: object) -> dict[str, object]:
        return passes(case, path, headers, "delta", reason, [target], **more)

    yield goes("a tool of a rule", modern("tools/call", "delta_write"), "rule", D2)
    yield goes("the same from /mcp", modern("tools/call", "delta_write_x"), "rule", D2) | {"path": "/mcp"}
    yield goes("a name that is encoded", modern("tools/call", sentinel("delta_write")), "rule", D2)
    yield goes("a prompt", modern("prompts/get", "delta_write_it"), "rule", D2)
    yield goes("a resource", modern("resources/read", "delta://docs/a"), "rule", D2)
    yield goes("the first of two", modern("tools/call", "delta_write_all"), "rule", D2)
    yield goes("a tool of no rule", modern("tools/call", "delta_read"), "lane", D1)
    yield goes("a call without a name", modern("completion/complete"), "lane", D1)
    yield goes("a name that no gate believes", modern("completion/complete", "delta_write"), "lane", D1)
    yield goes(
        "a client of a cohort",
        modern("tools/call", "delta_read", "tester"),
        "rule",
        D2,
        client="tester",
        key="tester-1",
    )
    yield goes("its calls without a name", modern("completion/complete", client="tester"), "rule", D2, client="tester")
    yield goes("its lists are stable's", modern("tools/list", client="tester"), "stable", D1, client="tester")
    yield goes("its discovery, too", modern("server/discover", client="tester"), "stable", D1, client="tester")
    bound = [["Mcp-Param-Handle", handle(SECRET["delta"], "aaaaa1", RANDOM, "tester")]]
    yield goes(
        "a handle binds before any rule",
        [*modern("tools/call", "delta_write", "tester"), *bound],
        "handle",
        f"{D1}_aaaaa1",
        client="tester",
    )
    yield stops(
        "a rule is no right",
        path,
        modern("tools/call", "delta_write", "narrow"),
        403,
        "right",
        "narrow",
        client="narrow",
        service="delta",
    )
    yield internal(
        goes("a cohort by its grant", inside("tools/call", "delta_read", "tester"), "rule", D2, client="tester")
    )
    yield internal(goes("tools by a grant", inside("tools/call", "delta_write", "dev"), "rule", D2))
    yield goes("a call that is copied", modern("tools/call", "delta_look"), "rule", both)
    spoofed = [*modern("tools/call", "delta_look"), ["X-Tekup-Copy", "1"]]
    yield goes("a call that says it is a copy", spoofed, "rule", both, gone=["x-tekup-copy"])
    unnamed = modern("completion/complete", client="watched")
    yield goes("a call that cannot be compared", unnamed, "rule", D1, client="watched")
    yield goes("any named call", modern("prompts/get", "delta_ask", "watched"), "rule", both, client="watched")
    for client in ("dev", "tester", "watched", "soon"):
        drawn = E2 if point(SALT, client) < 0.4 else E1
        call = modern("tools/call", "eps_x", client)
        yield passes(f"{client} is drawn by its name", "/eps/mcp", call, "eps", "lane", [drawn], client=client)
        lists = modern("tools/list", client=client)
        yield passes(f"{client}'s lists are stable's", "/eps/mcp", lists, "eps", "stable", [E1], client=client)


def bearers() -> Iterator[dict[str, object]]:
    """Callers with a bearer of an authorization server, of which forwardAuth has made a grant."""
    path, both, user = "/alpha/mcp", [V1, V2], f"team~{USER}"

    def made(
        client: str = "team", within: tuple[str, ...] = ("alpha_read*", "alpha://*", "beta_*"), **more: object
    ) -> str:
        said: dict[str, object] = {"subject": USER, "expires": 4_000_000_000, "within": within}
        return grant(MAC, payload(client, "", RIGHTS[client], **said | more))

    def foreign(row: dict[str, object]) -> dict[str, object]:
        return row | {"role": "foreign"}

    def holding(method: str, name: str, *grants: str) -> Pairs:
        return [
            ["Authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"],
            *modern(method, name)[1:],
            *[["X-Tekup-Grant", value] for value in grants],
        ]

    good = made()
    own: dict[str, object] = {"client": user, "key": "", "grant": good}
    yield foreign(
        passes("a user of a client", path, holding("tools/call", "alpha_read", good), "alpha", "lane", both, **own)
    )
    yield foreign(passes("on /mcp", "/mcp", holding("prompts/get", "beta_ask", good), "beta", "lane", [BETA], **own))
    yield foreign(passes("its lists", path, holding("tools/list", "", good), "alpha", "stable", [V1], **own))
    older = [["Authorization", "Bearer x"], *legacy()[1:], ["X-Tekup-Grant", good]]
    yield foreign(passes("of an older version", path, older, "hub", "legacy", [HUB], scope="alpha", **own))
    theirs = [["Mcp-Param-Handle", handle(SECRET["alpha"], "aaaaa3", RANDOM, user)]]
    call = holding("tools/call", "alpha_read", good)
    yield foreign(passes("its own handle", path, [*call, *theirs], "alpha", "handle", [INSTANCES["aaaaa3"]], **own))
    clients = [["Mcp-Param-Handle", handle(SECRET["alpha"], "aaaaa3", RANDOM, "team")]]
    yield foreign(passes("a handle of its client's keys", path, [*call, *clients], "alpha", "lane", both, **own))
    at = 'resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/alpha/mcp"'
    more = (
        f'Bearer error="insufficient_scope", scope="mcp:alpha", {at}, '
        'error_description="this call needs a further scope"'
    )
    refused: dict[str, object] = {"client": "team", "service": "alpha"}
    write = holding("tools/call", "alpha_write", good)
    yield foreign(
        stops("a tool beyond its scopes", path, write, 403, "right", "alpha_write", challenge=more, **refused)
    )
    rest = {"client": "team", "service": "beta"}
    yield foreign(
        stops(
            "a tool beyond its client", "/mcp", holding("tools/call", "beta_do", good), 403, "right", "beta_do", **rest
        )
    )
    scopeless = made(within=())
    yield foreign(
        stops(
            "without scopes",
            path,
            holding("tools/call", "alpha_read", scopeless),
            403,
            "right",
            "alpha_read",
            **refused,
        )
    )
    begin = f'Bearer {at}, scope="mcp:alpha"'
    for case, grants_sent, reason in (
        ("no grant", (), "wrong_grant"),
        ("two grants", (good, good), "wrong_grant"),
        (
            "forged",
            (grant("ff" * 32, payload("team", "", ["*"], subject=USER, expires=4_000_000_000, within=["*"])),),
            "wrong_grant",
        ),
        ("expired", (made(expires=1_700_000_000),), "expired_bearer"),
        ("of a client without bearers", (made("dev"),), "no_client"),
        ("with a subject of another form", (made(subject="../x"),), "no_client"),
        (
            "with a key as well",
            (grant(MAC, payload("team", "team-1", ["*"], subject=USER, expires=4_000_000_000, within=["*"])),),
            "no_client",
        ),
    ):
        headers = holding("tools/call", "alpha_read", *grants_sent)
        yield foreign(stops(f"a grant: {case}", path, headers, 401, reason, "", challenge=begin))
    twice = [["Authorization", "Bearer y"], *call]
    yield foreign(stops("two bearers", path, twice, 401, "no_key", "once"))
    inner = [*inside("tools/call", "alpha_read"), ["X-Tekup-Grant", good]]
    yield internal(passes("a user's call by its grant", path, inner, "alpha", "lane", both, **own))
    outer = [*inside("tools/call", "alpha_write"), ["X-Tekup-Grant", good]]
    yield internal(stops("its scopes count there", path, outer, 403, "right", "alpha_write", **refused))
    late = [*inside("tools/call", "alpha_read"), ["X-Tekup-Grant", made(expires=1_700_000_000)]]
    yield internal(
        stops("its end counts there", path, late, 401, "expired_bearer", "expired", client="~hub", service="alpha")
    )


def main() -> None:
    """Prints the file."""
    parts = (paths, eras, names, keys, rights, handles, spoofs, within, rules, bearers)
    rows = [{"part": part.__name__, **(internal(row) if part is within else row)} for part in parts for row in part()]
    proofs = {name: mac(keys[0], "gate").hex() for name, keys in SECRETS["services"].items()}  # type: ignore[attr-defined]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    sys.stdout.write(
        f'{{"world": {json.dumps(world())},\n"gate_proofs": {json.dumps(proofs)},\n'
        f'"draws": {json.dumps(draws())},\n"rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
