"""What can be said of the dashboards without any program that answers them."""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from observability.dashboards.__main__ import FOLDER, rendered
from tests.support.programs import ROOT, program

Json = dict[str, Any]
BOARDS: dict[str, Json] = {name: json.loads(text) for name, text in rendered()}
PROVISIONING = ROOT / "observability" / "grafana" / "provisioning"
RUNBOOKS = ROOT / "docs" / "runbooks"
WIDTH = 24


@functools.cache
def sources() -> dict[str, Json]:
    """The provisioned data sources, by uid."""
    text = (PROVISIONING / "datasources" / "tekup.yml").read_text()
    return {found["uid"]: found for found in yaml.safe_load(text)["datasources"]}


def panels(name: str) -> list[Json]:
    """A dashboard's panels, without the headings."""
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def variables(board: Json) -> set[str]:
    """The names of a dashboard's variables."""
    return {variable["name"] for variable in board["templating"].get("list", [])}


def defaults(panel: Json) -> Json:
    """How a panel's values are shown."""
    found: Json = panel.get("fieldConfig", {}).get("defaults", {})
    return found


def links_of(panel: Json) -> list[Json]:
    """Links of a panel's title and of its points."""
    return [*panel.get("links", []), *defaults(panel).get("links", [])]


def test_the_files_are_what_the_code_gives() -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert written == dict(rendered()), "run `make dashboards`"


@pytest.mark.timeout(600)
def test_grafanas_own_types_know_every_field() -> None:
    folder = ROOT / "observability" / "grafana" / "check"
    command = [program("go"), "run", ".", *map(str, sorted(FOLDER.glob("*.json")))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_a_field_that_grafana_does_not_know_is_found(tmp_path: Any) -> None:
    board = json.loads((FOLDER / "overview.json").read_text())
    board["panels"][1]["options"]["colour"] = "red"
    (tmp_path / "wrong.json").write_text(json.dumps(board))
    folder = ROOT / "observability" / "grafana" / "check"
    command = [program("go"), "run", ".", str(tmp_path / "wrong.json")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unexpected field 'colour'" in done.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_their_lines_and_none_lies_on_another(name: str) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in BOARDS[name]["panels"]]
    taken: dict[tuple[int, int], str] = {}
    for title, at in places:
        for x, y in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert (x, y) not in taken, f"{title} lies on {taken[x, y]}"
            taken[x, y] = title
    lines = {y for _, y in taken}
    assert lines == set(range(max(lines) + 1)), "there are empty lines"
    assert {x for x, _ in taken} == set(range(WIDTH))
    assert [(x, y) for y in lines for x in range(WIDTH) if (x, y) not in taken] == []


@pytest.mark.parametrize("name", BOARDS)
def test_no_row_is_empty_and_no_two_panels_of_a_row_bear_one_name(name: str) -> None:
    rows: list[list[str]] = []
    for panel in BOARDS[name]["panels"]:
        if panel["type"] == "row":
            rows.append([])
        else:
            rows[-1].append(panel["title"])
    assert all(rows)
    assert all(len(set(titles)) == len(titles) for titles in rows)


@pytest.mark.parametrize("name", BOARDS)
def test_a_panel_says_what_it_shows_in_a_unit_and_asks_a_source_that_is_there(name: str) -> None:
    for panel in panels(name):
        title = panel["title"]
        assert len(panel["description"]) > 20, title
        assert panel["description"].endswith("."), title
        assert len(title) * WIDTH / panel["gridPos"]["w"] < 250, f"{title}: too long for its width"
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= sources().keys(), title
        assert panel["targets"], title
        assert panel["type"] not in ("timeseries", "stat") or defaults(panel)["unit"], title


@pytest.mark.parametrize("name", BOARDS)
def test_panels_use_only_variables_that_their_dashboard_has(name: str) -> None:
    for panel in panels(name):
        text = json.dumps([panel["targets"], links_of(panel)])
        used = {first or second for first, second in re.findall(r"\$(?:\{(\w+)[^}]*\}|(\w+))", text)}
        assert {found for found in used if not found.startswith("__")} <= variables(BOARDS[name]), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_to_dashboards_with_such_variables(name: str) -> None:
    known = {board["uid"]: variables(board) for board in BOARDS.values()}
    for link in (link for panel in panels(name) for link in links_of(panel)):
        if uid := re.match(r"/d/([\w-]+)\?", link["url"]):
            assert set(re.findall(r"&var-(\w+)=", link["url"])) <= known[uid.group(1)], link
        else:
            assert link["url"].startswith(("/explore?", "/public/runbooks/")), link


@pytest.mark.skipif(not RUNBOOKS.is_dir(), reason="no runbook has been written yet")
@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_to_runbooks_that_are_there(name: str) -> None:
    there = {path.name for path in RUNBOOKS.glob("*.md")}
    linked = {
        link["url"].rsplit("/", 1)[1]
        for panel in panels(name)
        for link in links_of(panel)
        if "/runbooks/" in link["url"]
    }
    assert {file for file in linked if not file.startswith("$")} <= there


def test_panels_that_show_times_of_calls_lead_to_single_calls() -> None:
    shown = [
        panel["title"]
        for board in BOARDS.values()
        for panel in board["panels"]
        if any(target.get("exemplar") for target in panel.get("targets", []))
    ]
    assert len(shown) >= 5
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                # A recording rule has no exemplars: the question has to be over the histogram itself.
                assert not target.get("exemplar") or "_bucket{" in target["expr"]


def test_calls_lead_from_metrics_to_traces_to_log_lines_and_back() -> None:
    found = sources()
    (exemplars,) = found["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplars["datasourceUid"] == "jaeger"
    assert {field["datasourceUid"] for field in found["loki"]["jsonData"]["derivedFields"]} == {"jaeger"}
    assert found["jaeger"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert found["alertmanager"]["jsonData"]["implementation"] == "prometheus"
