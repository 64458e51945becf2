"""What a version offers its clients, and whether another keeps every promise of it. Pure values and functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = Mapping[str, object]


@dataclass(frozen=True)
class Offer:
    """What one version offers.

    Attributes:
        version: The version.
        protocols: Protocol versions it speaks.
        tools: `Tool` objects as listed, by name.
        prompts: `Prompt` objects, by name.
        resources: URIs and URI templates.
        probes: Arguments of the calls that have to work, by tool, as the service itself declares them.
    """

    version: str
    protocols: frozenset[str]
    tools: Mapping[str, Json]
    prompts: Mapping[str, Json] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    probes: Mapping[str, Json] = field(default_factory=dict)


def breaches(stable: Offer, canary: Offer) -> tuple[str, ...]:
    """Promises of the stable version that the canary would break, one sentence each; none if it keeps them all."""
    removed = sorted(stable.tools.keys() - canary.tools.keys())
    return tuple(f"tool {name} is gone" for name in removed)
