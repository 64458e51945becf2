"""Writes `signed.json`: the signed values of docs/contracts.md, made by nothing but the standard library.

The code that makes and checks these values in production (Go in the gate, Python in the agent, the kit and the
control plane) is tested against the file. It therefore shares no code with any of them: change this file only
together with docs/contracts.md.

    python -m tests.vectors.generate > tests/vectors/signed.json
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys

MAC = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
MAC_PREVIOUS = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
BROWSER = "0b" * 32
BROWSER_PREVIOUS = "1b" * 32
FILESYSTEM = "0f" * 32
HUB = "40" * 32
CONTROL_PLANE = "c0" * 32


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def mac(key_hex: str, text: str) -> bytes:
    """HMAC-SHA256 under the decoded key."""
    return hmac.new(bytes.fromhex(key_hex), text.encode(), hashlib.sha256).digest()


def grant(key_hex: str, payload: dict[str, object]) -> str:
    """`<b64(payload)>.<b64(HMAC(mac, b64(payload)))>`."""
    body = b64(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{body}.{b64(mac(key_hex, body))}"


def handle(key_hex: str, instance: str, random: bytes, client: str) -> str:
    """`<instance>.<random>.<tag>`."""
    tag = b64(mac(key_hex, f"{instance}.{b64(random)}.{client}"))[:22]
    return f"{instance}.{b64(random)}.{tag}"


def table_digest(values: dict[str, str]) -> str:
    """One line per key, in key order: `<key>\\0<sha256 of the raw value>\\n`."""
    lines = (f"{key}\0{hashlib.sha256(values[key].encode()).hexdigest()}\n" for key in sorted(values))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def payload(client: str, key: str, allow: list[str], **more: object) -> dict[str, object]:
    """A grant's payload, its members in the contract's order."""
    rest: dict[str, object] = {"cohort": "", "roots": [], "hosts": [], "access": "all"} | more
    return {"v": 1, "client": client, "key": key, "allow": allow, **rest}


def grants() -> list[dict[str, object]]:
    """Grants that are good, and grants that must be refused."""
    dev = payload("dev", "k1", ["*"])
    narrow = payload(
        "narrow",
        "k2",
        ["search_*", "filesystem://*"],
        cohort="beta",
        roots=["/srv/a b", "/srv/æøå"],
        hosts=["intern.example.com:8080"],
    )
    good = grant(MAC, dev)
    body, tag = good.split(".")
    other_body = grant(MAC, payload("dev", "k1", ["*", "**"])).split(".")[0]
    return [
        {"case": "current key", "grant": good, "valid": True, "payload": dev},
        {"case": "every member, not ASCII only", "grant": grant(MAC, narrow), "valid": True, "payload": narrow},
        {"case": "previous key", "grant": grant(MAC_PREVIOUS, dev), "valid": True, "payload": dev},
        {"case": "a key nobody holds", "grant": grant("ab" * 32, dev), "valid": False},
        {"case": "another payload under the same tag", "grant": f"{other_body}.{tag}", "valid": False},
        {"case": "tag cut short", "grant": good[:-1], "valid": False},
        {"case": "no tag", "grant": body, "valid": False},
        {"case": "empty tag", "grant": f"{body}.", "valid": False},
        {"case": "three parts", "grant": f"{good}.x", "valid": False},
        {"case": "empty", "grant": "", "valid": False},
        {"case": "signed, but not JSON", "grant": f"{b64(b'no')}.{b64(mac(MAC, b64(b'no')))}", "valid": False},
        {"case": "signed, of another version", "grant": grant(MAC, dev | {"v": 2}), "valid": False},
    ]


def handles() -> list[dict[str, object]]:
    """Handles of the browser service that are good, and handles that must be refused."""
    random = bytes(range(16))
    good = handle(BROWSER, "a1b2c3", random, "dev")
    instance, middle, tag = good.split(".")
    return [
        {"case": "current key", "handle": good, "client": "dev", "valid": True, "instance": "a1b2c3"},
        {
            "case": "previous key",
            "handle": handle(BROWSER_PREVIOUS, "d4e5f6", random, "dev"),
            "client": "dev",
            "valid": True,
            "instance": "d4e5f6",
        },
        {"case": "another client's", "handle": good, "client": "narrow", "valid": False},
        {
            "case": "another service's",
            "handle": handle(FILESYSTEM, "a1b2c3", random, "dev"),
            "client": "dev",
            "valid": False,
        },
        {"case": "instance exchanged", "handle": f"d4e5f6.{middle}.{tag}", "client": "dev", "valid": False},
        {"case": "tag cut short", "handle": good[:-1], "client": "dev", "valid": False},
        {"case": "tag too long", "handle": good + "A", "client": "dev", "valid": False},
        {"case": "no tag", "handle": f"{instance}.{middle}", "client": "dev", "valid": False},
        {"case": "empty", "handle": "", "client": "dev", "valid": False},
        {"case": "not a handle", "handle": "page-1", "client": "dev", "valid": False},
    ]


def api_keys() -> list[dict[str, str]]:
    """API keys; what is stored is the sha256 of the whole key, `tk_` included."""
    keys = {"k1": "tk_k1_" + "0123456789abcdef" * 3, "ci-runner-2": "tk_ci-runner-2_" + "ab" * 24}
    return [{"id": name, "key": key, "hash": hashlib.sha256(key.encode()).hexdigest()} for name, key in keys.items()]


def tables() -> list[dict[str, object]]:
    """Consul tables and their digests; keys are what follows the table's prefix."""
    dev = '{"id":"dev","allow":["*"],"access":"all","cohort":"","roots":[],"hosts":[],"limits":[],"oauth":[]}'
    samples: list[dict[str, str]] = [
        {},
        {"dev": dev},
        {"b": "2", "a": "1", "a-b": "3", "a0": "4", "B": "not in use, but sorts before a"},
        {"dev": dev, "æ": "ø"},
    ]
    return [{"values": values, "sha256": table_digest(values), "count": len(values)} for values in samples]


def main() -> None:
    """Prints the file."""
    secrets = {
        "mac": [MAC, MAC_PREVIOUS],
        "services": {
            "browser": [BROWSER, BROWSER_PREVIOUS],
            "filesystem": [FILESYSTEM],
            "hub": [HUB],
            "control-plane": [CONTROL_PLANE],
        },
    }
    current = {
        name: keys[0] for name, keys in {"browser": [BROWSER], "hub": [HUB], "control-plane": [CONTROL_PLANE]}.items()
    }
    document = {
        "secrets": secrets,
        "grants": grants(),
        "handles": {"service": "browser", "cases": handles()},
        "gate_proofs": {name: mac(key, "gate").hex() for name, key in current.items()},
        "caller_proofs": {name: mac(key, "caller").hex() for name, key in current.items()},
        "api_keys": api_keys(),
        "tables": tables(),
    }
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
