"""What a client with a key can do to others: a version whose instances answer well must go on getting its calls."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, call, flow

__all__ = ["ROWS"]

OUT: Final = (
    "Traefik's passive health check takes a request that its sender breaks off for a failure of the instance: two of"
    " them within 2 s, and the version's calls go to others"
)
ROWS: Final = [
    Row("many refused calls", flow("refused-calls"), frozenset({0})),
    Row("permitted calls with broken chunks", flow("broken-chunks"), frozenset({0}), through=OUT),
    Row("permitted calls shorter than they say", flow("short-bodies"), frozenset({0}), through=OUT),
    Row("permitted calls whose sender leaves", flow("cut-bodies"), frozenset({0}), through=OUT),
    Row("control: a permitted call", call("vault_peek"), frozenset({200}), runs_as="narrow", must_run=True),
]  # fmt: skip
