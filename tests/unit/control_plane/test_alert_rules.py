"""Operators' alert rules as values: what Prometheus reads of them, what it tells of them, what would have fired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.alert_rules import DIGEST, AlertRule, RuleGroup, fired, health_in
from control_plane.alertmanager import Matcher, refuse_others
from control_plane.errors import Forbidden, Refused
from control_plane.kept import REVISION_KEY
from control_plane.model import Revision, Table
from control_plane.rule_keeper import Keeper, RuleFiles
from control_plane.signed import table_sum
from tests.support.memory import Memory
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C13")
FIELDS: dict[str, Any] = {
    "name": "night",
    "interval_s": 15,
    "rules": ({"alert": "Deep", "expr": "depth > 5", "for_s": 60, "labels": {"severity": "warning"}},),
}
GROUP = RuleGroup.model_validate(FIELDS)


def loaded(group: RuleGroup, **fields: object) -> dict[str, Any]:
    """What a Prometheus says that has read a group."""
    [value] = yaml.safe_load(group.rendered())["groups"]
    rules = [
        {"name": one["alert"], "annotations": one["annotations"], "health": "ok", **fields} for one in value["rules"]
    ]
    return {"groups": [{"name": value["name"], "rules": rules}]}


def test_prometheus_reads_the_group_under_a_name_of_its_own_and_marked() -> None:
    [group] = yaml.safe_load(GROUP.rendered())["groups"]
    assert (group["name"], group["interval"]) == ("operators/night", "15s")
    [rule] = group["rules"]
    assert (rule["for"], rule["annotations"]) == ("60s", {DIGEST: GROUP.digest})
    assert "annotations" not in yaml.safe_load(GROUP.rendered(marked=False))["groups"][0]["rules"][0]


def test_a_group_is_live_where_just_this_version_of_it_is_loaded_and_evaluated() -> None:
    other = RuleGroup.model_validate({**FIELDS, "interval_s": 30})
    assert health_in(GROUP, loaded(GROUP)) == ("live", "")
    assert health_in(GROUP, loaded(other)) == ("older", "")
    assert health_in(GROUP, {"groups": []}) == ("not loaded", "")
    assert health_in(GROUP, loaded(GROUP, health="err", lastError="boom")) == ("unhealthy", "boom")


@pytest.mark.parametrize(
    ("moments", "for_s", "told"),
    [
        ((), 0, (0, 0.0)),
        ((60.0, 120.0, 180.0), 0, (1, 180.0)),
        ((60.0, 120.0, 600.0, 660.0), 0, (2, 240.0)),
        ((60.0, 120.0, 600.0), 60, (1, 60.0)),
        ((60.0, 120.0), 300, (0, 0.0)),
    ],
)
def test_a_rule_would_have_fired_as_often_as_it_held_long_enough(
    moments: tuple[float, ...], for_s: int, told: tuple[int, float]
) -> None:
    rule = AlertRule(alert="Deep", expr="depth > 5", for_s=for_s)
    assert fired(rule, {"{}": moments}, 60) == told


@pytest.mark.parametrize(
    "fields", [{"rules": ()}, {"name": "Night"}, {"rules": ({"alert": "a b", "expr": "1"},)}, {"interval_s": -1}]
)
def test_a_group_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RuleGroup.model_validate({**FIELDS, **fields})


def test_who_is_bound_to_services_silences_theirs_alone() -> None:
    own, other = Matcher(name="service", value="search"), Matcher(name="service", value="hub")
    refuse_others((), [other])
    refuse_others(("search",), [Matcher(name="alertname", value="x"), own])
    for matchers in ([other], [Matcher(name="service", value="search|hub", isRegex=True)], []):
        with pytest.raises(Forbidden):
            refuse_others(("search",), matchers)


async def test_the_keeper_writes_what_fits_its_revision_and_leaves_all_as_it_is_otherwise(tmp_path: Path) -> None:
    store, folder = Memory(), tmp_path / "rules"
    keeper = Keeper(store, Table.RULES, RuleFiles(folder).write)
    folder.mkdir()

    def put(number: int, *groups: RuleGroup, honest: bool = True) -> None:
        raws = {one.name: one.to_bytes() for one in groups}
        sums = {Table.RULES: table_sum(raws if honest else {})}
        store.put(REVISION_KEY, Revision(epoch=1, number=number, tables=sums).to_bytes())
        for name in ("night", "day"):
            store.put(Table.RULES.prefix + name, raws.get(name))

    async def holds(*names: str) -> bool:
        with_files = sorted(path.stem for path in folder.glob("*.yml"))
        await keeper._read(0)
        return with_files == sorted(names)

    day = RuleGroup.model_validate({**FIELDS, "name": "day"})
    put(1, GROUP, day)
    await eventually(lambda: holds("day", "night"), "both groups", 20)
    put(2, honest=False)
    store.put(Table.RULES.prefix + "night", b"{}")
    await eventually(lambda: holds("day", "night"), "nothing taken away", 20)
    put(3, day)
    await eventually(lambda: holds("day"), "one group", 20)


def test_the_platforms_own_annotation_is_not_to_be_written_by_hand() -> None:
    rule = {"alert": "Deep", "expr": "1", "annotations": {DIGEST: "x"}}
    with pytest.raises(Refused, match="the platform's own"):
        RuleGroup.parse(json.dumps({**FIELDS, "rules": [rule]}), "x")
