"""Dashboards as a person sees them: variables filled in as Grafana does, every query asked of the real programs."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

Json = dict[str, Any]
SHOWN_S = 600
"""The time that is shown."""
STEP_S = 5
BUILT_IN = {"__rate_interval": f"{4 * STEP_S}s", "__interval": f"{STEP_S}s", "__range": f"{SHOWN_S}s"}
MOST_CHOICES = 200
TRACE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Panel:
    """One panel of a dashboard; `asked` are its queries, by data source."""

    board: str
    title: str
    kind: str
    asked: tuple[tuple[str, Json], ...]

    @property
    def name(self) -> str:
        """The board's and its own."""
        return f"{self.board}: {self.title}"


@dataclass(frozen=True)
class Answers:
    """What the programs say; their URLs, and what asks them."""

    prometheus: str
    loki: str
    jaeger: str
    http: httpx.Client

    def series(self, expr: str, *, now: bool = False) -> list[Json]:
        """Series of a query that have a value, over the time shown or now."""
        end = time.time()
        asked: Json = {"query": expr, "time": end}
        if not now:
            asked = {"query": expr, "start": end - SHOWN_S, "end": end, "step": STEP_S}
        found = self._prometheus("query" if now else "query_range", asked)["result"]
        return [one for one in found if any(_number(value) for _, value in one.get("values", [one.get("value")]))]

    def metrics_of(self, expr: str) -> set[str]:
        """Names of the metrics that a query reads."""
        return set(_selected(self._prometheus("parse_query", {"query": expr})))

    def known_metrics(self) -> set[str]:
        """Names of all metrics that were ever seen, or were announced and have no series yet."""
        announced: list[str] = list(self._prometheus("metadata", {}, "GET"))
        names: list[str] = self._prometheus("label/__name__/values", {}, "GET")
        return {*announced, *(f"{name}_total" for name in announced), *names}

    def labels(self, label: str, selector: str) -> list[str]:
        """Values of a label on series of the time shown."""
        asked = {"match[]": selector, "start": time.time() - SHOWN_S, "end": time.time()}
        return cast("list[str]", self._prometheus(f"label/{label}/values", asked, "GET"))

    def exemplars(self, expr: str) -> set[str]:
        """Trace ids of single calls that Prometheus has for the series of a query."""
        end = time.time()
        found = self._prometheus("query_exemplars", {"query": expr, "start": end - SHOWN_S, "end": end})
        return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}

    def rules(self) -> list[Json]:
        """Groups of rules, and how their last evaluation went."""
        return cast("list[Json]", self._prometheus("rules", {}, "GET")["groups"])

    def lines(self, expr: str) -> list[str]:
        """Log lines of a query."""
        asked: dict[str, str | int] = {"query": expr, "since": f"{SHOWN_S}s", "limit": 200}
        answer = self.http.get(f"{self.loki}/loki/api/v1/query_range", params=asked)
        assert answer.is_success, f"{expr}: {answer.text}"
        return [line for stream in answer.json()["data"]["result"] for _, line in stream["values"]]

    def trace(self, trace_id: str) -> list[Json]:
        """A trace's spans."""
        answer = self.http.get(f"{self.jaeger}/api/traces/{trace_id}")
        return [span for trace in answer.json().get("data") or () for span in trace["spans"]]

    def _prometheus(self, what: str, asked: Json, method: str = "POST") -> Any:
        url = f"{self.prometheus}/api/v1/{what}"
        answer = self.http.get(url, params=asked) if method == "GET" else self.http.post(url, data=asked)
        assert answer.is_success, f"{asked}: {answer.text}"
        return answer.json()["data"]


def boards(folder: Path) -> dict[str, Json]:
    """The dashboards of a folder by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def panels(name: str, board: Json) -> Iterator[Panel]:
    """A dashboard's panels, and what it marks on all of them."""
    for found in board["panels"]:
        if found["type"] != "row":
            asked = tuple((target["datasource"]["uid"], target) for target in found["targets"])
            yield Panel(name, found["title"], found["type"], asked)
    for found in board["annotations"]["list"]:
        yield Panel(name, f"annotation {found['name']}", "annotation", ((found["datasource"]["uid"], found),))


def choices(board: Json, answers: Answers) -> list[dict[str, str]]:
    """What a person may choose for the variables: each value of those of which one is chosen, all of the others."""
    found: list[dict[str, str]] = [{}]
    for variable in board["templating"].get("list", ()):
        chosen = []
        for before in found:
            parsed = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", variable["query"]["query"])
            assert parsed, variable["query"]
            values = answers.labels(parsed[2], filled(parsed[1], before))
            if variable.get("sort") in (2, 4, 8):
                values = values[::-1]
            if variable.get("multi"):
                values = [variable["allValue"]]
            chosen += [{**before, variable["name"]: value} for value in values]
        found = chosen
    assert len(found) <= MOST_CHOICES, f"{board['title']} has {len(found)} choices"
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """A query with its variables filled in."""

    def value(match: re.Match[str]) -> str:
        return {**BUILT_IN, **values}.get(match[1] or match[2], match[0])  # such as the $1 of label_replace

    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", value, text)


def answered(panel: Panel, answers: Answers, values: Mapping[str, str]) -> list[int]:
    """How many series or lines each query of a panel gives."""
    counts = []
    for source, target in panel.asked:
        expr = filled(target["expr"], values)
        if source == "loki":
            counts.append(len(answers.lines(expr)))
        else:
            counts.append(len(answers.series(expr, now=bool(target.get("instant")))))
    return counts


def silent(board: str, shown: Json, answers: Answers) -> Iterator[str]:
    """Queries that give nothing, whatever one chooses, as `board: panel #query`."""
    offered = choices(shown, answers)
    for panel in panels(board, shown):
        missing = set(range(len(panel.asked)))
        for values in offered:
            counts = answered(panel, answers, values)
            missing -= {number for number, count in enumerate(counts) if count}
            if not missing:
                break
        yield from (f"{panel.name} #{'ABCDEFGHIJ'[number]}" for number in sorted(missing))


def _number(value: str) -> bool:
    return not math.isnan(float(value))


def _selected(node: Any) -> Iterator[str]:
    """Names in a parsed query."""
    for inner in itertools.chain(
        node.values() if isinstance(node, dict) else (), node if isinstance(node, list) else ()
    ):
        yield from _selected(inner)
    if isinstance(node, dict) and node.get("type") in ("vectorSelector", "matrixSelector"):
        yield node["name"]
