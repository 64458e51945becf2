"""Alert rules that operators add: groups of rules as documents, and as the files that Prometheus reads. Pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, JsonValue, StringConstraints, model_validator

from control_plane.model import ONE_LINE, Document, Name, Stored

GROUP_PREFIX = "operators/"
"""Before the group's name in Prometheus, so that none is taken for one of the platform's own."""
DIGEST = "tekup_digest"
"""The annotation that says which version of a group a Prometheus has loaded."""
FILE_SUFFIX = ".yml"
PROMETHEUS_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$"
MOST_RULES = 50

LabelName = Annotated[str, StringConstraints(pattern=PROMETHEUS_NAME)]
LabelValue = Annotated[str, StringConstraints(pattern=ONE_LINE, max_length=200)]
Seconds = Annotated[int, Field(ge=0, le=7 * 86_400)]


class AlertRule(Document):
    """When somebody is to be told.

    Attributes:
        alert: Its name.
        expr: PromQL; each series that it gives is an alert.
        for_s: How long it has to hold, in seconds.
        keep_firing_for_s: How long it goes on firing after it last held, in seconds.
        labels: What the alert carries besides; `severity` says who is told.
        annotations: What people read.
    """

    alert: Annotated[str, StringConstraints(pattern=PROMETHEUS_NAME)]
    expr: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    for_s: Seconds = 0
    keep_firing_for_s: Seconds = 0
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelName, Annotated[str, StringConstraints(max_length=1000)]] = Field(default_factory=dict)

    def value(self, digest: str) -> dict[str, Any]:
        """As Prometheus reads it."""
        times = {"for": self.for_s, "keep_firing_for": self.keep_firing_for_s}
        annotations = {**self.annotations, **({DIGEST: digest} if digest else {})}
        return {
            "alert": self.alert,
            "expr": self.expr,
            **{name: f"{seconds}s" for name, seconds in times.items() if seconds},
            **({"labels": dict(self.labels)} if self.labels else {}),
            **({"annotations": annotations} if annotations else {}),
        }


class RuleGroup(Stored):
    """Rules that are evaluated together.

    Attributes:
        name: Unique among the groups of operators.
        interval_s: How often they are evaluated; 0 = as often as Prometheus does by itself.
        rules: The rules.
        tests: Unit tests in promtool's own form, each with `input_series` and `alert_rule_test`; all have to pass.
    """

    name: Name
    interval_s: Annotated[int, Field(ge=0, le=3600)] = 0
    rules: Annotated[tuple[AlertRule, ...], Field(min_length=1, max_length=MOST_RULES)]
    tests: Annotated[tuple[dict[str, JsonValue], ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _tests_are_about_these(self) -> Self:
        if any(DIGEST in rule.annotations for rule in self.rules):
            raise ValueError(f"the annotation {DIGEST} is the platform's own; leave it out")
        return self

    @property
    def key(self) -> str:
        return self.name

    @property
    def digest(self) -> str:
        """Tells this version of the group from every other."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    def rendered(self, *, marked: bool = True) -> str:
        """The file that Prometheus reads.

        Args:
            marked: Each rule tells by an annotation which version of the group it is of.
        """
        group: dict[str, Any] = {"name": GROUP_PREFIX + self.name}
        group |= {"interval": f"{self.interval_s}s"} if self.interval_s else {}
        group["rules"] = [rule.value(self.digest if marked else "") for rule in self.rules]
        return yaml.safe_dump({"groups": [group]}, sort_keys=False, allow_unicode=True)

    def rendered_tests(self, rules_file: str) -> str:
        """The file that `promtool test rules` reads."""
        value = {"rule_files": [rules_file], "evaluation_interval": "15s", "tests": [dict(one) for one in self.tests]}
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


Health = Literal["live", "not loaded", "older", "unhealthy"]


def health_in(group: RuleGroup, loaded: Mapping[str, Any]) -> tuple[Health, str]:
    """How a Prometheus has a group.

    Args:
        group: As it should be.
        loaded: `data` of its answer to `/api/v1/rules`.

    Returns:
        What it is, and why it is unhealthy.
    """
    mine = [one for one in loaded.get("groups", ()) if one.get("name") == GROUP_PREFIX + group.name]
    if not mine:
        return "not loaded", ""
    rules = mine[0].get("rules", ())
    if len(rules) != len(group.rules) or any(_digest(rule) != group.digest for rule in rules):
        return "older", ""
    why = next((str(rule["lastError"]) for rule in rules if rule.get("health") == "err"), "")
    return ("unhealthy", why) if why else ("live", "")


def _digest(rule: Mapping[str, Any]) -> str:
    annotations = rule.get("annotations")
    return str(annotations.get(DIGEST, "")) if isinstance(annotations, Mapping) else ""


def fired(rule: AlertRule, series: Mapping[str, tuple[float, ...]], step_s: float) -> tuple[int, float]:
    """How often a rule would have fired, and for how long altogether in seconds.

    Args:
        rule: The rule.
        series: When its expression held, by series, in seconds since the epoch and in order.
        step_s: How far these moments lie apart.
    """
    times, total = 0, 0.0
    for moments in series.values():
        for began, ended in _runs(moments, step_s):
            if ended - began >= rule.for_s:
                times += 1
                total += ended - began - rule.for_s + step_s
    return times, total


def _runs(moments: tuple[float, ...], step_s: float) -> list[tuple[float, float]]:
    runs: list[tuple[float, float]] = []
    for at in moments:
        if runs and at - runs[-1][1] <= step_s * 1.5:
            runs[-1] = runs[-1][0], at
        else:
            runs.append((at, at))
    return runs
