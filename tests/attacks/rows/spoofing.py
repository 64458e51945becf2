"""Headers that only the gate may set, in every spelling; by a client with few rights, and by nobody."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Pair, Row, call

__all__ = ["ROWS"]

ANY: Final = frozenset({200, 400, 401, 403})
CLAIMS: Final[dict[str, str]] = {
    "Client": "dev",
    "Grant": "<<grant dev>>",
    "Gate": "<<gate vault>>",
    "Service": "attic",
    "Route": "attic_1-0-0",
    "Scope": "attic",
    "Target": "attic_1-0-0",
}
SPELLINGS: Final = {
    "as it is": "X-Tekup-{}",
    "in lower case": "x-tekup-{}",
    "in capitals": "X-TEKUP-{}",
    "with underscores": "X_Tekup_{}",
    "with dots": "X.Tekup.{}",
    "mixed": "X-Tekup_{}",
    "with a tilde": "X~Tekup~{}",
}


def claims(spelling: str) -> list[Pair]:
    """All that the gate says, said by the caller."""
    return [(spelling.format(what), value) for what, value in CLAIMS.items()]


def one(name: str, value: str) -> list[Pair]:
    """One claim."""
    return [(name, value)]


SINGLE: Final = {
    "a grant": one("X-Tekup-Grant", "<<grant dev>>"),
    "a client": one("X-Tekup-Client", "dev"),
    "another route": one("X-Tekup-Route", "attic_1-0-0"),
    "another target": one("X-Tekup-Target", "vault_1-0-0_aaaaa1"),
    "the gate's proof twice": [("X-Tekup-Gate", "<<gate vault>>"), ("X-Tekup-Gate", "<<gate attic>>")],
    "a grant twice": [("X-Tekup-Grant", "<<grant dev>>"), ("X-Tekup-Grant", "<<grant rich>>")],
    "that it is a copy": [("X-Tekup-Copy", "1"), ("X-Tekup-Call", "spoofed")],
    "a trailing blank": one("X-Tekup-Client ", "dev"),
    "a tab before the colon": one("X-Tekup-Client\t", "dev"),
    "a leading blank": [(" X-Tekup-Client", "dev")],
    "a folded line": [("X-Other", "1\r\n X-Tekup-Client: dev")],
    "a folded line with a tab": [("X-Other", "1\r\n\tX-Tekup-Client: dev")],
    "a line end alone": [("X-Other", "1\nX-Tekup-Client: dev")],
    "a carriage return alone": [("X-Other", "1\rX-Tekup-Client: dev")],
    "a NUL in the name": [("X-Tekup-Client\0", "dev")],
    "a NUL in the value": [("X-Tekup-Client", "dev\0")],
    "the proof of a caller": [("X-Tekup-Caller", "hub"), ("X-Tekup-Proof", "<<proof hub>>"),
                              ("X-Tekup-Grant", "<<grant dev>>")],
    "the control plane's proof": [("X-Tekup-Caller", "control-plane"), ("X-Tekup-Proof", "<<proof control-plane>>"),
                                  ("X-Tekup-Target", "vault_1-0-0")],
    "a forwarded client": [("X-Forwarded-User", "dev"), ("X-Forwarded-For", "127.0.0.1"), ("Remote-User", "dev")],
    "hop by hop: the client": [("Connection", "X-Tekup-Client")],
    "hop by hop: all of the gate's": [("Connection", "X-Tekup-Client, X-Tekup-Grant, X-Tekup-Gate, X-Tekup-Service")],
    "hop by hop: the protocol's": [("Connection", "Mcp-Method, Mcp-Name, MCP-Protocol-Version")],
    "hop by hop: the key": [("Connection", "Authorization, close")],
    "hop by hop: Keep-Alive and Proxy-Connection": [("Keep-Alive", "X-Tekup-Grant"),
                                                    ("Proxy-Connection", "X-Tekup-Client")],
}  # fmt: skip

ROWS: Final = [
    *(
        Row(f"nobody says it is the gate, {how}", call(client="", add=claims(spelling)), frozenset({400, 401}),
            unguarded="_" not in spelling)
        for how, spelling in SPELLINGS.items()
    ),
    *(
        Row(f"a client says it is another, {how}", call(add=claims(spelling)), frozenset({400, 403}))
        for how, spelling in SPELLINGS.items()
    ),
    *(
        Row(f"a permitted call claims to be another's, {how}", call("vault_peek", add=claims(spelling)), ANY,
            runs_as="narrow")
        for how, spelling in SPELLINGS.items()
    ),
    *(Row(f"a permitted call carries {what}", call("vault_peek", add=fields), ANY, runs_as="narrow")
      for what, fields in SINGLE.items()),
    # Taken away from the gate: the protocol's headers make an older client, the key makes nobody.
    *(Row(f"a refused call carries {what}", call(add=fields), ANY) for what, fields in SINGLE.items()),
    Row("control: the permitted call alone", call("vault_peek"), frozenset({200}), runs_as="narrow", must_run=True),
]  # fmt: skip
