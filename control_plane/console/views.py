"""From what the API answers to what pages show: what needs attention first, lanes, banners. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
MOST_SHOWN_CHARS = 400


@dataclass(frozen=True)
class Banner:
    """Something about the whole that stands at the top of every page.

    Attributes:
        level: `bad` or `warn`.
        said: In a sentence or two.
    """

    level: str
    said: str


def banners(status: Json | None, why: str, old: str) -> list[Banner]:
    """What is wrong with the whole.

    Args:
        status: What the API says of itself; None if it says nothing.
        why: Why it says nothing.
        old: How old the oldest answer on the page is; "" if all are of now.
    """
    found: list[Banner] = []
    if old:
        found.append(
            Banner("bad", f"The control plane cannot read its store. This page shows what was known {old};"
                          " changes are refused until it answers. Calls of clients go on: gates need no control plane.")
        )  # fmt: skip
    if status is None:
        return [*found, Banner("bad", f"The control plane does not answer: {why}")]
    if not old and not status["leader"]:
        found.append(Banner("bad", "No replica leads. Reading works; changes wait for a leader and are then refused."))
    if not status["initialised"]:
        found.append(Banner("bad", status["message"] or "There is no policy yet; begin with `tekup state init`."))
    elif status["message"]:
        found.append(Banner("warn", _sentence(status["message"])))
    return found + [Banner("warn", said) for said in _gates(status)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _gates(status: Json) -> Iterable[str]:
    newest = (status["epoch"], status["revision"])
    for gate in status["gates"]:
        if not gate["live"]:
            yield f"Gate {gate['id']}: its agent is gone. It serves what it last had, revision {gate['revision']}."
        elif (gate["epoch"], gate["revision"]) < newest:
            yield f"Gate {gate['id']} is at revision {gate['revision']}, not yet at {newest[1]}."
        yield from (f"Gate {gate['id']}: {problem}" for problem in gate["problems"])


@dataclass(frozen=True)
class Lane:
    """A share of a bar, in percent: from `x`, so wide."""

    version: str
    weight_pct: float
    x: float
    number: int


def lanes(policy: Json | None) -> list[Lane]:
    """Where the calls of a service go, stable first, as pieces of one bar."""
    if policy is None:
        return []
    shares = sorted(policy["lanes"], key=lambda lane: (lane["version"] != policy["stable"], lane["version"]))
    found, x = [], 0.0
    for number, lane in enumerate(shares):
        found.append(Lane(lane["version"], lane["weight_pct"], x, min(number, 5)))
        x += lane["weight_pct"]
    return found


@dataclass(frozen=True)
class Row:
    """A service on the overview.

    Attributes:
        level: `bad`, `warn`, `busy` or `good`.
        said: What is to be said of it, the worst first.
    """

    name: str
    level: str
    said: tuple[str, ...]
    stable: str
    lanes: list[Lane]
    serving: int
    instances: int
    rollout: Json | None = None
    alerts: int = 0


LEVELS = ("bad", "warn", "busy", "good")
WORDS = {"bad": "Needs you", "warn": "Look", "busy": "Moving", "good": "Healthy"}


def rows(services: Iterable[Json], rollouts: Iterable[Json], alerts: Mapping[str, int]) -> list[Row]:
    """Every service, those that need attention first.

    Args:
        services: As the API gives them.
        rollouts: The last of each service.
        alerts: How many fire, by service.
    """
    last = {one["service"]: one for one in rollouts}
    found = [_row(one, last.get(one["name"]), alerts.get(one["name"], 0)) for one in services]
    return sorted(found, key=lambda row: (LEVELS.index(row.level), row.name))


def _row(service: Json, rollout: Json | None, alerts: int) -> Row:
    told = list(told_of(service, rollout, alerts))
    level = min((level for level, _ in told), key=LEVELS.index, default="good")
    said = tuple(said for _, said in sorted(told, key=lambda one: LEVELS.index(one[0])))
    policy, instances = service["policy"], service["instances"]
    shown = rollout if rollout and not (rollout["ended"] and rollout["phase"] in ("succeeded", "superseded")) else None
    serving = sum(serves(one) for one in instances)
    stable = policy["stable"] if policy else ""
    return Row(service["name"], level, said, stable, lanes(policy), serving, len(instances), shown, alerts)


def serves(instance: Json) -> bool:
    """Whether an instance takes calls."""
    return bool(instance["passing"]) and instance["state"] == "serving"


def told_of(service: Json, rollout: Json | None, alerts: int) -> Iterable[tuple[str, str]]:
    """What is to be said of a service, each with its level; nothing if all is well."""
    policy, instances = service["policy"], service["instances"]
    if alerts:
        yield "bad", f"{alerts} alert{'s fire' if alerts > 1 else ' fires'}"
    if policy is None:
        yield "warn", "registered, and waits for an operator's word: it gets no calls"
    staffed = {one["version"] for one in instances if serves(one)}
    for lane in policy["lanes"] if policy else ():
        if lane["version"] not in staffed:
            yield "bad", f"{lane['version']} is given {pct(lane['weight_pct'])} and no instance of it serves"
    if down := [one["id"] for one in instances if not one["passing"]]:
        yield "warn", f"{len(down)} of {len(instances)} instances fail their check"
    if failing := [one for one in instances if str(one["probe"]).startswith("failing")]:
        yield "warn", f"a tool call through the gate fails on {len(failing)} of {len(instances)} instances"
    if rollout:
        yield from _of_rollout(rollout)


def _of_rollout(rollout: Json) -> Iterable[tuple[str, str]]:
    what = f"{rollout['stable']} → {rollout['canary']}"
    if rollout["health"] == "Paused":
        yield "bad", f"rollout {what} waits for a person: {rollout['said']}"
    elif rollout["health"] == "Degraded" and not rollout["ended"]:
        yield "bad", f"rollout {what} goes back: {rollout['said']}"
    elif rollout["phase"] in ("failed", "rolled_back"):
        yield "warn", f"rollout {what} was {words(rollout['phase'])}: {rollout['said']}"
    elif not rollout["ended"]:
        yield "busy", f"rollout {what}: {words(rollout['phase'])}, {rollout['traffic']}"


def by_version(service: Json) -> list[tuple[str, float, list[Json]]]:
    """Versions of a service with their share and instances: those with calls first, stable before all."""
    policy = service["policy"] or {"stable": "", "lanes": []}
    weights = {lane["version"]: lane["weight_pct"] for lane in policy["lanes"]}
    mine: dict[str, list[Json]] = {version: [] for version in weights}
    for one in service["instances"]:
        mine.setdefault(one["version"], []).append(one)
    order = sorted(mine, key=lambda version: (version != policy["stable"], -weights.get(version, 0), version))
    return [(version, weights.get(version, 0.0), mine[version]) for version in order]


def fingerprint(what: object) -> str:
    """Short, and another one for anything else; what a form was made from."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def pct(value: float) -> str:
    """A share in percent."""
    return f"{value:g} %"


def words(name: str) -> str:
    """A phase as people say it."""
    return name.replace("_", " ")


def check_said(name: str) -> str:
    """The name of a check; of one of a single tool, the tool after it as it is called."""
    what, _, tool = name.partition(":")
    return f"{words(what)}: {tool}" if tool else words(what)


def shown(value: object) -> str:
    """A value of a document, on one line."""
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN_CHARS else f"{text[: MOST_SHOWN_CHARS - 1]}…"


def lasted(seconds: float) -> str:
    """A stretch of time, in its largest unit."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{math.floor(seconds / size)} {unit}"
    return f"{math.floor(seconds)} s"


@dataclass(frozen=True)
class Versus:
    """What became of the object of a form since it was shown.

    Attributes:
        since: The revision the form was made from.
        now: The present one.
        records: What changed it since, the newest first.
        events: What its rollout has done since.
    """

    since: int
    now: int
    records: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
