"""What once was good is sent again."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, call, flow

__all__ = ["ROWS"]

NO_KEY: Final = frozenset({401})
INSIDE: Final = [("X-Tekup-Caller", "hub"), ("X-Tekup-Proof", "<<proof hub>>")]

ROWS: Final = [
    Row("a revoked key", call(client="gone"), NO_KEY, unguarded=True),
    Row("an expired key", call(client="late"), NO_KEY, unguarded=True),
    Row("a revoked key as an old client", call(client="gone", version="2025-11-25", drop=("Mcp-Method", "Mcp-Name")),
        NO_KEY),
    *(Row(f"a grant of {whose} key, inside", call(client="", add=[*INSIDE, ("X-Tekup-Grant", f"<<grant {client}>>")]),
          NO_KEY, entry="internal", unguarded=True)
      for client, whose in {"gone": "a revoked", "late": "an expired"}.items()),
    Row("the very same request after its key was revoked", flow("revoked"), NO_KEY),
    Row("the same on the connection on which it was good", flow("revoked-on-the-connection"), NO_KEY),
    Row("the very same request after the right was taken", flow("right-taken"), frozenset({403})),
    Row("the very same request after its key had expired", flow("expired"), NO_KEY),
    Row("control: the request of one whose key is good", call(client="rich"), frozenset({200}), runs_as="rich",
        must_run=True),
]  # fmt: skip
