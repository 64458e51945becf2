"""All rows, by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tests.attacks.row import Row
from tests.attacks.rows import (
    bearers,
    eras,
    grants,
    handles,
    http2,
    keys,
    names,
    neighbours,
    origins,
    paths,
    reading,
    reflections,
    replays,
    sizes,
    smuggling,
    spoofing,
)

__all__ = ["CATEGORIES"]

CATEGORIES: Final[Mapping[str, Sequence[Row]]] = {
    "keys": keys.ROWS,
    "bearers": bearers.ROWS,
    "spoofed headers": spoofing.ROWS,
    "smuggling": smuggling.ROWS,
    "eras": eras.ROWS,
    "names": names.ROWS,
    "handles": handles.ROWS,
    "grants and proofs": grants.ROWS,
    "replays": replays.ROWS,
    "sizes": sizes.ROWS,
    "hosts and origins": origins.ROWS,
    "reflections": reflections.ROWS,
    "HTTP/2": http2.ROWS,
    "paths": paths.ROWS,
    "lists, listening, completion": reading.ROWS,
    "what others meet": neighbours.ROWS,
}
