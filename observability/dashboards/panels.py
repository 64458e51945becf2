"""Kinds of panels. Each says what it shows and what to do about it; a name a panel bears is a sentence's subject."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import common as look
from grafana_foundation_sdk.builders import heatmap, logs, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from observability.dashboards.queries import Asked

Steps = Sequence[tuple[float | None, str]]
Links = Sequence[DashboardLink]
Made = Builder[dashboard.Panel]
AnyPanel = TypeVar("AnyPanel", series.Panel, stat.Panel, table.Panel, logs.Panel, heatmap.Panel, statetimeline.Panel)
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4


def above(warn: float, bad: float | None = None) -> Steps:
    """The higher the worse.

    Args:
        warn: Yellow from here.
        bad: Red from here.
    """
    return [(None, "green"), (warn, "yellow"), *([(bad, "red")] if bad is not None else [])]


def below(bad: float, warn: float | None = None) -> Steps:
    """The lower the worse.

    Args:
        bad: Red below this.
        warn: Yellow below this.
    """
    return [(None, "red"), (bad, "yellow" if warn is not None else "green"), *([(warn, "green")] if warn else [])]


def only(bad: float) -> Steps:
    """Good below this, and red from here.

    Args:
        bad: Red from here.
    """
    return [(None, "green"), (bad, "red")]


def timeseries(
    title: str, about: str, *asked: Asked, unit: str = "short", width: int = THIRD, steps: Steps | None = None,
    links: Links = (), more: Links = (), stacked: bool = False, most: float | None = None,
) -> Made:  # fmt: skip
    """Lines over time.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to do when it looks bad.
        asked: The queries.
        unit: Of the values, in Grafana's words.
        width: Of 24.
        steps: From where it is bad, drawn as dashed lines.
        links: From a point of a series, whose labels they may use.
        more: From the panel's title.
        stacked: Whether the series add up.
        most: Highest value of the axis.
    """
    made = _common(series.Panel(), title, about, asked, width, 8, more).unit(unit).min(0)
    made = made.legend(_legend()).tooltip(look.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
    made = made.show_points(shapes.VisibilityMode.AUTO).line_width(1).fill_opacity(25 if stacked else 5)
    made = made.data_links(list(links)) if links else made
    if stacked:
        made = made.stacking(look.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if most is not None:
        made = made.max(most)
    if steps:
        style = look.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds(_thresholds(steps)).thresholds_style(style)
    return made


def figure(
    title: str, about: str, asked: Asked, *, unit: str = "short", width: int = SIXTH, steps: Steps | None = None,
    links: Links = (), words: Mapping[str, str] | None = None,
) -> Made:  # fmt: skip
    """One figure, coloured by how bad it is.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to do when it looks bad.
        asked: The query; one series, or a few.
        unit: Of the value, in Grafana's words.
        width: Of 24.
        steps: From where it is bad.
        links: Where a click leads.
        words: What stands in the place of a value.
    """
    made = _common(stat.Panel(), title, about, [asked], width, 4, ()).unit(unit)
    made = made.reduce_options(look.ReduceDataOptions().calcs(["lastNotNull"])).data_links(list(links))
    made = made.graph_mode(shapes.BigValueGraphMode.AREA if steps else shapes.BigValueGraphMode.NONE)
    made = made.thresholds(_thresholds(steps or [(None, "blue")])).color_mode(shapes.BigValueColorMode.VALUE)
    return made.mappings([_mapping(words)]) if words else made


def listing(
    title: str, about: str, *asked: Asked, columns: Mapping[str, str], width: int = HALF, height: int = 8,
    units: Mapping[str, str] | None = None, links: Links = (),
) -> Made:  # fmt: skip
    """A table: one line for each series, of one query or of several with the same labels.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to do about a line.
        asked: The queries, of one moment; the value of the second is `Value #B`.
        columns: Label, or `Value`, to the words above it, in this order; no other label is shown.
        width: Of 24.
        height: Of the dashboard's lines.
        units: Words above a column to its unit.
        links: From a line, whose labels are `${__data.fields.<words above the column>}`.
    """
    made = _common(table.Panel(), title, about, asked, width, height, ()).data_links(list(links))
    if len(asked) > 1:
        made = made.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    order = {label: position for position, label in enumerate(columns)}
    kept = dashboard.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(columns)}})
    named = dashboard.DataTransformerConfig(
        id_val="organize", options={"indexByName": order, "renameByName": dict(columns), "excludeByName": {}}
    )
    made = made.with_transformation(kept).with_transformation(named)
    for words, unit in (units or {}).items():
        made = made.override_by_name(words, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    return made


def loglines(title: str, about: str, asked: Asked, *, width: int = FULL, height: int = 9) -> Made:
    """Log lines, the newest first; a line's trace id leads to its trace.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to look for.
        asked: The query.
        width: Of 24.
        height: Of the dashboard's lines.
    """
    made = _common(logs.Panel(), title, about, [asked], width, height, ())
    made = made.show_time(True).enable_log_details(True).wrap_log_message(False).show_common_labels(False)
    return made.sort_order(shapes.LogsSortOrder.DESCENDING).dedup_strategy(shapes.LogsDedupStrategy.NONE)


def states(title: str, about: str, asked: Asked, *, width: int = HALF,
           words: Mapping[str, tuple[str, str]] | None = None) -> Made:  # fmt: skip
    """A band over time for each series, coloured by its value.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to do about it.
        asked: The query.
        width: Of 24.
        words: Value to what it means and its colour.
    """
    made = _common(statetimeline.Panel(), title, about, [asked], width, 8, ())
    made = made.show_value(shapes.VisibilityMode.NEVER).row_height(0.8)
    made = made.legend(look.VizLegendOptions().show_legend(False).display_mode(shapes.LegendDisplayMode.LIST)
                       .placement(shapes.LegendPlacement.BOTTOM).calcs([]))  # fmt: skip
    meant = words or {"0": ("no", "transparent"), "1": ("yes", "blue")}
    results = {
        value: dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(meant.items())
    }
    return made.mappings([dashboard.ValueMap(options=results)])


def heat(title: str, about: str, asked: Asked, *, unit: str = "s", width: int = HALF) -> Made:
    """How many, by size and time.

    Args:
        title: What it shows.
        about: The same in a sentence, and what to look for.
        asked: The query, one series for each bucket.
        unit: Of a bucket's edge, in Grafana's words.
        width: Of 24.
    """
    made = _common(heatmap.Panel(), title, about, [asked], width, 8, ()).calculate(False)
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return made.y_axis(heatmap.YAxisConfig().unit(unit)).color(colors)


def _common(
    made: AnyPanel, title: str, about: str, asked: Sequence[Asked], width: int, height: int, more: Links
) -> AnyPanel:
    made = made.title(title).description(about).span(width).height(height).datasource(asked[0].source)
    for ref, one in zip(string.ascii_uppercase, asked, strict=False):
        made = made.with_target(one.target(ref))
    return made.links(list(more)) if more else made


def _legend() -> look.VizLegendOptions:
    made = look.VizLegendOptions().display_mode(shapes.LegendDisplayMode.TABLE).show_legend(True)
    return made.placement(shapes.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]).sort_by("Last *").sort_desc(True)


def _thresholds(steps: Steps) -> ThresholdsConfig:
    made = ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE)
    return made.steps([dashboard.Threshold(value=value, color=color) for value, color in steps])


def _mapping(words: Mapping[str, str]) -> dashboard.ValueMapping:
    results = {
        value: dashboard.ValueMappingResult(text=text, index=index) for index, (value, text) in enumerate(words.items())
    }
    return dashboard.ValueMap(options=results)


__all__ = [
    "FULL", "HALF", "QUARTER", "SIXTH", "THIRD", "Made",
    "above", "below", "figure", "heat", "listing", "loglines", "only", "states", "timeseries",
]  # fmt: skip
