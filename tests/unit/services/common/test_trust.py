"""Only the gate is believed, and only when its headers agree."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from services.common.call import PROBE_CLIENT, STANDALONE_CLIENT
from services.common.jsonrpc import Refusal
from services.common.signing import Keyring
from services.common.trust import Trust

OWN = "5f" * 32


def headers(keyring: Keyring, client: str = "", grant: str | None = None) -> dict[bytes, bytes]:
    said = {b"x-tekup-gate": keyring.gate_proofs()[0].encode(), b"x-tekup-client": client.encode()}
    return said if grant is None else said | {b"x-tekup-grant": grant.encode()}


def test_the_proofs_of_the_vectors_are_believed(vectors: dict[str, Any]) -> None:
    for service, proof in vectors["gate_proofs"].items():
        keys = vectors["secrets"]["services"][service]
        trust = Trust(Keyring(tuple(map(bytes.fromhex, keys))), standalone=False, own_proof=OWN)
        said = {b"x-tekup-gate": proof.encode(), b"x-tekup-client": b"~hub"}
        assert trust.call_of(said).internal
        for wrong in (proof[:-1], proof + "0", proof.upper(), "", "0" * 64):
            with pytest.raises(Refusal):
                trust.call_of(said | {b"x-tekup-gate": wrong.encode()})


def test_a_grant_of_the_vectors_becomes_the_call_it_describes(vectors: dict[str, Any], keyring: Keyring) -> None:
    trust = Trust(keyring, standalone=False, own_proof=OWN)
    for case in vectors["grants"]:
        if not case["valid"]:
            continue
        payload = case["payload"]
        call = trust.call_of(headers(keyring, payload["client"], case["grant"]))
        said = {name: getattr(call, name) for name in ("client", "key", "cohort")}
        assert said == {name: payload[name] for name in said}
        assert (list(call.rights.allow), list(call.roots), list(call.hosts)) == (
            payload["allow"],
            payload["roots"],
            payload["hosts"],
        )
        assert not call.internal


@pytest.mark.parametrize(
    ("client", "grant"),
    [("dev", None), ("", None), ("dev", ""), ("dev", "e30.x"), ("dev", "!!!"), ("dev", "bm8.x")],
)
def test_a_proven_gate_without_a_sound_grant_is_refused(keyring: Keyring, client: str, grant: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        Trust(keyring, standalone=False, own_proof=OWN).call_of(headers(keyring, client, grant))
    assert refused.value.status == 403


def test_a_grant_of_another_client_is_refused(vectors: dict[str, Any], keyring: Keyring) -> None:
    grant = vectors["grants"][0]["grant"]
    with pytest.raises(Refusal):
        Trust(keyring, standalone=False, own_proof=OWN).call_of(headers(keyring, "eve", grant))


def test_standalone_believes_nobody_and_serves_everybody(keyring: Keyring) -> None:
    call = Trust(keyring, standalone=True, own_proof=OWN).call_of({b"x-tekup-client": b"admin"})
    assert (call.client, call.internal) == (STANDALONE_CLIENT, True)


@pytest.mark.parametrize("standalone", [True, False])
def test_the_instances_own_proof_makes_its_probe_and_nothing_like_it_does(keyring: Keyring, standalone: bool) -> None:
    trust = Trust(keyring, standalone=standalone, own_proof=OWN)
    call = trust.call_of({b"x-tekup-gate": OWN.encode(), b"x-tekup-client": b"admin"})
    assert (call.client, call.internal) == (PROBE_CLIENT, True)
    for wrong in ("", OWN[:-1], OWN.upper()):
        said = {b"x-tekup-gate": wrong.encode(), b"x-tekup-client": PROBE_CLIENT.encode()}
        if standalone:
            assert trust.call_of(said).client == STANDALONE_CLIENT
        else:
            with pytest.raises(Refusal):
                trust.call_of(said)


@pytest.mark.feature("A11")
def test_each_user_of_a_client_is_somebody_of_their_own_and_held_to_their_scopes(keyring: Keyring) -> None:
    said = {
        "v": 1,
        "client": "desktop",
        "key": "",
        "allow": ["*"],
        "subject": "ab" * 8,
        "expires": 1,
        "within": ["a_*"],
    }
    grant = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode() + ".mac"
    trust = Trust(keyring, standalone=False, own_proof=OWN)
    call = trust.call_of(headers(keyring, f"desktop~{'ab' * 8}", grant))
    assert call.client == f"desktop~{'ab' * 8}"
    assert (call.may_use("a_read"), call.may_use("b_read")) == (True, False)
    for other in ("desktop", f"desktop~{'cd' * 8}", f"~{'ab' * 8}"):
        with pytest.raises(Refusal):
            trust.call_of(headers(keyring, other, grant))
