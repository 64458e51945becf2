"""Prometheus's rules as an environment wants them: their durations scaled, their runbooks found.

The files in `observability/prometheus/rules/` are rules as they are: what this makes of them at scale 1 differs in the
addresses of runbooks alone. A scale below 1 lets tests and drills see within seconds what takes minutes otherwise.

Every duration counts, in `interval`, `for`, `keep_firing_for` and in expressions: windows, offsets, and what a number
of seconds is compared with (`> 10m`). Hence a bound in an expression that must not be scaled is written as a number.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parent / "prometheus" / "rules"
RUNBOOKS = "RUNBOOKS/"
"""Stands in `runbook_url` for wherever runbooks lie."""
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
# A string, or a name that may hold what looks like a duration (`rate5m`), or a duration.
_TOKEN = re.compile(
    r"""(?P<other>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_:][A-Za-z0-9_:]*|\d*\.\d+)"""
    rf"|(?P<window>(?<=\[){_DURATION.pattern}(?=[\]:])|(?<=offset ){_DURATION.pattern}\b)"
    rf"|(?P<duration>{_DURATION.pattern}\b)"
)


@dataclass(frozen=True)
class Scale:
    """How durations change.

    Attributes:
        factor: What they are multiplied by.
        window_s: No window and no offset becomes shorter: a rate needs two samples, and one may be late.
        interval_s: No group is evaluated more often.
    """

    factor: float = 1.0
    window_s: float = 0.0
    interval_s: float = 0.0

    def duration(self, text: str, least_s: float = 0.0) -> str:
        """A duration scaled, in Prometheus's words."""
        if self.factor == 1:
            return text
        scaled_s = max(seconds(text) * self.factor, min(least_s, seconds(text)))
        return f"{round(scaled_s * 1000)}ms"

    def expression(self, text: str) -> str:
        """PromQL with all its durations scaled."""

        def scaled(found: re.Match[str]) -> str:
            if found["other"] is not None:
                return found["other"]
            if found["window"] is not None:
                return self.duration(found["window"], self.window_s)
            return self.duration(found["duration"])

        return _TOKEN.sub(scaled, text)


def seconds(text: str) -> float:
    """What a duration of Prometheus's comes to, `1h30m` for example.

    Raises:
        ValueError: It is none.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write it like 5m or 1h30m")
    return sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))


def render(text: str, scale: Scale, runbooks: str) -> str:
    """A file of rules as it is given to Prometheus.

    Args:
        text: The file's.
        scale: What becomes of its durations.
        runbooks: Base URL or folder of the runbooks.

    Raises:
        ValueError: A duration is none.
    """
    file = yaml.safe_load(text)
    for group in file["groups"]:
        if "interval" in group:
            group["interval"] = scale.duration(group["interval"], scale.interval_s)
        group["rules"] = [_rule(rule, scale, runbooks) for rule in group["rules"]]
    return yaml.safe_dump(file, sort_keys=False, allow_unicode=True, width=10_000)


def _rule(rule: Mapping[str, Any], scale: Scale, runbooks: str) -> dict[str, Any]:
    made = {**rule, "expr": scale.expression(str(rule["expr"]))}
    for name in ("for", "keep_firing_for"):
        if name in made:
            made[name] = scale.duration(made[name])
    if "annotations" in made:
        base = runbooks.rstrip("/") + "/"
        made["annotations"] = {name: text.replace(RUNBOOKS, base) for name, text in made["annotations"].items()}
    return made


def rule_files(folder: Path = RULES) -> dict[str, Path]:
    """All files of rules, by their paths within the folder; tests of rules are none."""
    files = (*folder.glob("*.yml"), *folder.glob("alerts/*.yml"))
    return {str(path.relative_to(folder)): path for path in sorted(files)}


def rendered(scale: Scale, runbooks: str, folder: Path = RULES) -> dict[str, str]:
    """All files of rules as they are given to Prometheus, by their paths within its folder of rules.

    Raises:
        ValueError: A duration is none; names the file.
    """
    made = {}
    for name, path in rule_files(folder).items():
        try:
            made[name] = render(path.read_text(encoding="utf-8"), scale, runbooks)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return made


def main(argv: list[str]) -> int:
    """`python -m observability.rules FOLDER [RUNBOOKS]`: write the rules as they are into a folder."""
    if not argv:
        print("say where to: python -m observability.rules FOLDER [RUNBOOKS]", file=sys.stderr)
        return 2
    target, runbooks = Path(argv[0]), argv[1] if len(argv) > 1 else "docs/runbooks"
    for name, text in rendered(Scale(), runbooks).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
