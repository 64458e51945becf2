"""What a panel asks, and whom. The data sources' ids are those of grafana/provisioning/datasources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from grafana_foundation_sdk.builders.loki import Dataquery as LokiQuery
from grafana_foundation_sdk.builders.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
JAEGER = DataSourceRef(type_val="jaeger", uid="jaeger")
MOST_LINES = 200


class Asked(Protocol):
    """Something a panel asks."""

    @property
    def source(self) -> DataSourceRef:
        """Whom."""

    def target(self, ref: str) -> Builder[Dataquery]:
        """Grafana's query, under a letter of the panel's."""


@dataclass(frozen=True)
class Query:
    """A question to Prometheus."""

    expr: str
    legend: str
    now: bool
    exemplars: bool
    by_bucket: bool

    @property
    def source(self) -> DataSourceRef:
        """Prometheus."""
        return PROMETHEUS

    def target(self, ref: str) -> Builder[Dataquery]:
        """Grafana's query, under a letter of the panel's."""
        asked = PrometheusQuery().expr(self.expr).legend_format(self.legend or "__auto").ref_id(ref)
        asked = asked.datasource(PROMETHEUS)
        if self.now:
            return asked.instant().format(PromQueryFormat.TABLE)
        if self.by_bucket:
            asked = asked.format(PromQueryFormat.HEATMAP)
        return asked.range().exemplar(self.exemplars)


@dataclass(frozen=True)
class Lines:
    """A question to Loki for log lines."""

    expr: str

    @property
    def source(self) -> DataSourceRef:
        """Loki."""
        return LOKI

    def target(self, ref: str) -> Builder[Dataquery]:
        """Grafana's query, under a letter of the panel's."""
        asked = LokiQuery().expr(self.expr).query_type("range").max_lines(MOST_LINES).ref_id(ref)
        return asked.datasource(LOKI)


def query(expr: str, legend: str = "", *, exemplars: bool = False, by_bucket: bool = False) -> Query:
    """How something went over the time shown.

    Args:
        expr: PromQL.
        legend: A series' name, `{{label}}` filled in.
        exemplars: Show single calls with their traces; `expr` has to be over the histogram itself, for a recording rule
            has none.
        by_bucket: For a heatmap: `expr` gives a series for each bucket.
    """
    return Query(expr, legend, now=False, exemplars=exemplars, by_bucket=by_bucket)


def now(expr: str) -> Query:
    """How something is at the end of the time shown, for a table.

    Args:
        expr: PromQL.
    """
    return Query(expr, "", now=True, exemplars=False, by_bucket=False)


def lines(expr: str) -> Lines:
    """Log lines, the newest 200.

    Args:
        expr: LogQL.
    """
    return Lines(expr)


def quantile(share: float, selector: str, *by: str, metric: str = "tekup_tool_seconds") -> str:
    """PromQL: a quantile of a duration, in seconds.

    Args:
        share: Of calls that are no slower, 0 to 1.
        selector: Which series, without braces.
        by: Labels to keep apart.
        metric: The histogram.
    """
    kept = ", ".join(("le", *by))
    return f"histogram_quantile({share:g}, sum by ({kept}) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))"


def rate(counter: str, *by: str) -> str:
    """PromQL: how often a second.

    Args:
        counter: A counter, with its selector.
        by: Labels to keep apart.
    """
    return f"sum by ({', '.join(by)}) (rate({counter}[$__rate_interval]))"
