"""Signed values agree with the vectors that every language is tested against."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.signing import Keyring


def keyring_of(vectors: dict[str, Any], service: str) -> Keyring:
    return Keyring(tuple(bytes.fromhex(key) for key in vectors["secrets"]["services"][service]))


@pytest.mark.feature("A4")
def test_handles_are_believed_exactly_as_the_vectors_say(vectors: dict[str, Any]) -> None:
    keyring = keyring_of(vectors, vectors["handles"]["service"])
    for case in vectors["handles"]["cases"]:
        believed = keyring.checks_handle(case["handle"], case["client"])
        assert believed == case["valid"], case["case"]


def test_a_new_handle_names_the_instance_and_is_the_clients_own(vectors: dict[str, Any]) -> None:
    keyring = keyring_of(vectors, "browser")
    handle = keyring.sign_handle("a1b2c3", "dev")
    assert handle.startswith("a1b2c3.")
    assert keyring.checks_handle(handle, "dev")
    assert not keyring.checks_handle(handle, "eve")
    assert handle != keyring.sign_handle("a1b2c3", "dev")


def test_a_handle_of_the_previous_key_is_believed_and_new_ones_are_made_with_the_current() -> None:
    old, new = b"o" * 32, b"n" * 32
    handle = Keyring((old,)).sign_handle("a1b2c3", "dev")
    assert Keyring((new, old)).checks_handle(handle, "dev")
    assert not Keyring((new,)).checks_handle(handle, "dev")
    assert Keyring((new,)).checks_handle(Keyring((new, old)).sign_handle("a1b2c3", "dev"), "dev")


def test_a_keyring_does_not_show_its_keys() -> None:
    assert "kkkk" not in repr(Keyring((b"k" * 32,)))


def test_the_callers_proof_is_that_of_the_vectors(vectors: dict[str, Any]) -> None:
    for service, proof in vectors["caller_proofs"].items():
        assert keyring_of(vectors, service).caller_proof() == proof
