"""How much a container may send: the label `tekup.bandwidth`, in the words of `tc`, as in `200mbit`."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["LABEL", "LEAST", "bound_of", "bytes_per_second"]

LABEL = "tekup.bandwidth"
LEAST = 125_000
"""1 Mbit/s, in bytes per second: with less, a list of tools is late."""
_RATE = re.compile(r"([1-9][0-9]{0,5})(k|m|g)bit")
_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def bytes_per_second(text: str) -> int:
    """A rate as `tc` writes it, in bytes per second.

    Raises:
        ValueError: it is none.

    Source: tc(8), "PARAMETERS", RATES.
    """
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise ValueError("it must be a number with kbit, mbit or gbit, as in 200mbit")
    return int(found[1]) * _UNITS[found[2]] // 8


def bound_of(labels: Mapping[str, str]) -> int | None:
    """What a container's labels let each of its links send, in bytes per second; None for as much as it can."""
    return bytes_per_second(labels[LABEL]) if LABEL in labels else None
