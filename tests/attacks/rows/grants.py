"""Grants and proofs: stolen, altered, made with the wrong key, at the wrong door."""

from __future__ import annotations

from typing import Any, Final

from tests.attacks.row import Pair, Raw, Row, call

__all__ = ["ROWS"]

REFUSED: Final = frozenset({400, 401, 403, 404})


def inside(*fields: Pair, caller: str = "hub", proof: str = "<<proof hub>>", **more: Any) -> Raw:
    """A call at the internal entrypoint."""
    shown = [("X-Tekup-Caller", caller), ("X-Tekup-Proof", proof)]
    return call(client="", add=[*((name, value) for name, value in shown if value), *fields], **more)


def grant(value: str) -> Pair:
    """A grant."""
    return ("X-Tekup-Grant", value)


def direct(*fields: Pair, **more: Any) -> Raw:
    """A call at a service's own port."""
    return call(client="", path="/mcp", add=fields, **more)


FORGED: Final = (
    "grant-widened",
    "grant-of-dev-with-own-tag",
    "grant-by-service-key",
    "grant-by-zero-key",
    "grant-without-tag",
    "grant-of-unknown-key",
    "grant-with-another-key",
    "grant-version-2",
)
PROOFS: Final = {
    "no proof": ("hub", ""),
    "no name": ("", "<<proof hub>>"),
    "another service's proof": ("hub", "<<proof vault>>"),
    "a service with its own proof": ("vault", "<<proof vault>>"),
    "the control plane with the hub's proof": ("control-plane", "<<proof hub>>"),
    "the gate's proof to the hub": ("hub", "<<gate hub>>"),
    "a proof cut short": ("hub", "00"),
    "two names": ("hub, control-plane", "<<proof hub>>"),
}
ROWS: Final = [
    *(Row(f"inside: {what}", inside(grant("<<grant dev>>"), caller=caller, proof=proof), REFUSED, entry="internal",
          unguarded=True) for what, (caller, proof) in PROOFS.items()),
    *(Row(f"inside: a forged grant: {what}", inside(grant(f"<<forged {what}>>")), REFUSED, entry="internal",
          unguarded=True) for what in FORGED),
    Row("inside: a grant of one without the right", inside(grant("<<grant narrow>>")), REFUSED, entry="internal"),
    Row("inside: two grants", inside(grant("<<grant narrow>>"), grant("<<grant dev>>")), REFUSED, entry="internal"),
    Row("inside: a call of the hub's own", inside(), REFUSED, entry="internal"),
    Row("inside: a call of the hub's own, pinned", inside(("X-Tekup-Target", "vault_1-0-0")), REFUSED,
        entry="internal"),
    Row("inside: an old version", inside(grant("<<grant narrow>>"), version="2025-11-25"), REFUSED, entry="internal"),
    Row("inside: a pretended list, old", inside(grant("<<grant narrow>>"), version="",
                                                put={"Mcp-Method": "tools/list"}), REFUSED, entry="internal"),
    Row("inside: the hub's address", inside(grant("<<grant dev>>"), path="/hub/mcp"), REFUSED, entry="internal"),
    Row("inside: the address of all", inside(grant("<<grant dev>>"), path="/mcp"), REFUSED, entry="internal"),
    Row("inside: a key instead of a proof", call(client="dev"), REFUSED, entry="internal", unguarded=True),
    Row("inside: a target of another service", inside(grant("<<grant dev>>"), ("X-Tekup-Target", "attic_1-0-0")),
        REFUSED, entry="internal"),
    Row("inside: the list of services without a proof", call(client="", verb="GET", path="/tekup/services", body=b"",
        drop=("Content-Length",)), REFUSED, entry="internal", reveals=("filesystem_1-0-0",)),
    Row("outside: a stolen grant instead of a key", call(client="", add=[grant("<<grant dev>>")]), REFUSED,
        unguarded=True),
    Row("outside: a stolen grant beside one's own key", call(add=[grant("<<grant dev>>")]), REFUSED),
    Row("outside: a stolen grant and the hub's proof", inside(grant("<<grant dev>>")), REFUSED, unguarded=True),
    Row("outside: pinned to a target", call(add=[("X-Tekup-Target", "vault_1-0-0_aaaaa1")]), REFUSED),
    Row("past the gate: no proof", direct(), REFUSED, entry="vault"),
    Row("past the gate: a key", call(client="dev", path="/mcp"), REFUSED, entry="vault"),
    Row("past the gate: another service's proof", direct(("X-Tekup-Gate", "<<gate attic>>"), ("X-Tekup-Client", "dev"),
        grant("<<grant dev>>")), REFUSED, entry="vault"),
    Row("past the gate: the proof twice", direct(("X-Tekup-Gate", "<<gate vault>>"), ("X-Tekup-Gate", "x"),
        ("X-Tekup-Client", "dev"), grant("<<grant dev>>")), REFUSED, entry="vault"),
    Row("past the gate: a client without a grant", direct(("X-Tekup-Gate", "<<gate vault>>"),
        ("X-Tekup-Client", "dev")), REFUSED, entry="vault"),
    Row("past the gate: one of the platform without a proof", direct(("X-Tekup-Client", "~control-plane")), REFUSED,
        entry="vault"),
    Row("past the gate: another client's grant", direct(("X-Tekup-Gate", "<<gate vault>>"),
        ("X-Tekup-Client", "narrow"), grant("<<grant dev>>")), REFUSED, entry="vault"),
    Row("past the gate: an old version, with a proof", direct(("X-Tekup-Gate", "<<gate vault>>"),
        ("X-Tekup-Client", "narrow"), grant("<<grant narrow>>"), version="2025-11-25"), REFUSED, entry="vault"),
    Row("past the gate: a grant without the right", direct(("X-Tekup-Gate", "<<gate vault>>"),
        ("X-Tekup-Client", "narrow"), grant("<<grant narrow>>")), frozenset({200, 400, 403}), entry="vault"),
    Row("control: inside, the hub for a client", inside(grant("<<grant dev>>")), frozenset({200}), entry="internal",
        runs_as="dev", must_run=True),
    Row("control: past the gate, with all that the gate says", direct(("X-Tekup-Gate", "<<gate vault>>"),
        ("X-Tekup-Client", "dev"), grant("<<grant dev>>")), frozenset({200}), entry="vault", runs_as="dev",
        must_run=True),
]  # fmt: skip
