"""Whether who was given calls has anybody to answer them: live instances of each version that has a share. Pure.

Gates take a version without live instances out of the lanes within seconds, and callers notice nothing: what was
decided and what happens then differ for as long as nobody looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from control_plane.model import Instance, ServicePolicy, version_target

Lane = tuple[str, str]
"""A service, and the target of one of its versions."""


def staffing(services: Iterable[ServicePolicy], instances: Iterable[Instance]) -> dict[Lane, int]:
    """How many live instances each version has that policy gives calls to.

    Args:
        services: What operators decided.
        instances: All registered ones.

    Returns:
        Of each lane with a share that nobody closed, those of the rules as well; 0 where others answer for it.
    """
    live = Counter((one.service, one.version) for one in instances if one.live)
    found: dict[Lane, int] = {}
    for decided in services:
        lanes = [*decided.lanes, *(lane for rule in decided.rules for lane in rule.lanes)]
        for lane in lanes:
            if lane.weight_pct > 0 and lane.version not in decided.closed:
                target = version_target(decided.name, lane.version)
                found[decided.name, target] = live[decided.name, lane.version]
    return found
