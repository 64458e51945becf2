"""From the samples of one look to the readings of its checks. Pure.

What counts as bad, of which calls:

- `tool_errors`: calls that ended as `tool_error` or `error`, of all that were not cancelled. A caller's bad arguments
  are among them on both sides; only a version that refuses what stable accepts differs. `deadline` and `schema` alike.
- `http_5xx`: what the version's own instances answered with 5xx or by dying, and for the canary also the calls meant
  for it that others had to take, of all calls it was sent. A call that failed over is not the caller's loss, but it is
  the canary's fault.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from control_plane.readings import Counts, Durations, Missing, Reading
from control_plane.sequential import Count

CALLS = "tekup_tool_calls_total"
SECONDS = "tekup_tool_seconds_bucket"
CARRIED = "traefik_service_requests_total"
MEANT = "traefik_router_requests_total"
UNKNOWN_TOOL = "(unknown)"
_NO_CALLS = Durations((1.0,), (0, 0), (0, 0))
BAD_OUTCOMES = {"tool_errors": ("tool_error", "error"), "deadline": ("deadline",), "schema": ("schema",)}


@dataclass(frozen=True)
class Sample:
    """One series at the moment of a look.

    Attributes:
        labels: Its labels, the name among them as `__name__` where it has one.
        at_s: When it was evaluated, in seconds since the epoch.
        value: Its value.
    """

    labels: Mapping[str, str]
    at_s: float
    value: float

    @property
    def is_number(self) -> bool:
        """Whether it is finite."""
        return math.isfinite(self.value)

    @property
    def is_count(self) -> bool:
        """Whether it is a whole number from 0 up."""
        return self.is_number and self.value >= 0 and self.value % 1 == 0


@dataclass(frozen=True)
class Sides:
    """Whom a look compares: two versions and their targets."""

    stable: str
    canary: str
    stable_target: str
    canary_target: str


class Tallies:
    """The samples of one look, sorted by what they are.

    Args:
        samples: All of them.
        sides: Who is compared.
        stale_s: A side whose newest sample is older, in seconds, has no readings.
    """

    def __init__(self, samples: Iterable[Sample], sides: Sides, stale_s: float) -> None:
        self._sides = sides
        self._stale_s = stale_s
        self._named: dict[str, list[Sample]] = defaultdict(list)
        self._ages_s: dict[str, float] = {}
        for sample in samples:
            if name := sample.labels.get("__name__"):
                self._named[name].append(sample)
            elif sample.is_number:
                self._ages_s[sample.labels.get("version", "")] = sample.at_s - sample.value

    def reading(self, check: str) -> Reading:
        """The reading of a check by its name, or why there is none."""
        kind, _, tool = check.partition(":")
        if kind == "http_5xx":
            return self._stale("") or self._counts(self._answers)
        why = self._stale(self._sides.canary) or self._stale(self._sides.stable)
        if why is not None:
            return why
        if kind == "latency":
            return self._durations(tool)
        if kind in BAD_OUTCOMES:
            return self._counts(lambda version: self._ended(version, tool, BAD_OUTCOMES[kind]))
        return Missing(f"there is no metric for a check named {check}")

    def _stale(self, version: str) -> Missing | None:
        age_s = self._ages_s.get(version)
        who = f"instance of {version}" if version else "gate"
        if age_s is None:
            return Missing(f"Prometheus scrapes no {who}")
        if age_s > self._stale_s:
            return Missing(f"the newest sample of any {who} is {age_s:.0f} s old, more than {self._stale_s:g} s")
        return None

    def _counts(self, of: Callable[[str], Count]) -> Counts | Missing:
        try:
            return Counts(of(self._sides.stable), of(self._sides.canary))
        except ValueError as error:
            return Missing(f"Prometheus has counts that cannot be: {error}")

    def _ended(self, version: str, tool: str, bad: tuple[str, ...]) -> Count:
        mine = [
            sample
            for sample in self._named[CALLS]
            if sample.labels.get("version") == version and (not tool or sample.labels.get("tool") == tool)
        ]
        calls = _total(sample for sample in mine if sample.labels.get("outcome") != "cancelled")
        return Count(_total(sample for sample in mine if sample.labels.get("outcome") in bad), calls)

    def _answers(self, version: str) -> Count:
        target = self._sides.canary_target if version == self._sides.canary else self._sides.stable_target
        carried = [sample for sample in self._named[CARRIED] if _belongs(sample, target)]
        bad = _total(sample for sample in carried if sample.labels.get("code", "").startswith("5"))
        count = Count(bad, _total(carried))
        if version == self._sides.stable:
            # What stable took over from the canary would count against what it gave away itself.
            return count
        passed_on = self._passed_on(target)
        return count + Count(passed_on, passed_on)

    def _passed_on(self, target: str) -> int:
        """Calls meant for a version that none of its instances was sent, summed over the gates."""
        meant, carried = (
            _by_gate(sample for sample in self._named[name] if sample.labels.get("service") == service)
            for name, service in ((MEANT, f"{target}@file"), (CARRIED, f"{target}.lb@file"))
        )
        return sum(max(0, calls - carried.get(gate, 0)) for gate, calls in meant.items())

    def _durations(self, tool: str) -> Durations | Missing:
        sides: list[dict[float, int]] = []
        try:
            for version in (self._sides.stable, self._sides.canary):
                by_edge: dict[float, int] = defaultdict(int)
                for sample in self._named[SECONDS]:
                    of = sample.labels.get("tool", "")
                    if sample.labels.get("version") == version and of != UNKNOWN_TOOL and tool in ("", of):
                        by_edge[float(sample.labels["le"])] += _whole(sample)
                sides.append(by_edge)
            edges = sorted({edge for side in sides for edge in side})
            if not edges:
                return _NO_CALLS
            if any(side and sorted(side) != edges for side in sides):
                return Missing("the histograms of the two versions have different edges")
            stable, canary = (tuple(side.get(edge, 0) for edge in edges) for side in sides)
            return Durations(tuple(edges[:-1]), stable, canary)
        except (ValueError, KeyError) as error:
            return Missing(f"Prometheus has a histogram that cannot be: {error}")


def _belongs(sample: Sample, target: str) -> bool:
    name = sample.labels.get("service", "").removesuffix("@file")
    return name.endswith(".lb") and (name == f"{target}.lb" or name.startswith(f"{target}_"))


def _by_gate(samples: Iterable[Sample]) -> dict[str, int]:
    by_gate: dict[str, int] = defaultdict(int)
    for sample in samples:
        by_gate[sample.labels.get("instance", "")] += _whole(sample)
    return by_gate


def _total(samples: Iterable[Sample]) -> int:
    return sum(_whole(sample) for sample in samples)


def _whole(sample: Sample) -> int:
    if not sample.is_count:
        raise ValueError(f"{dict(sample.labels)} is {sample.value:g}, which is no count")
    return int(sample.value)
