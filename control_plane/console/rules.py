"""Pages of alert rules: listed, written in an editor, tried, added and removed; and who is told of alerts."""

from __future__ import annotations

import yaml
from starlette.responses import Response

from control_plane.console.action import UNPROCESSABLE, Action, carry_out, confirm
from control_plane.console.backend import Json, Refusal
from control_plane.console.visit import Visit, api, at

NOT_FOUND = 404
HOURS = 24
LONGEST = 50_000
BEGIN = """\
interval_s: 15
rules:
  - alert: SearchesSlow
    expr: |
      histogram_quantile(0.95, sum by (le) (rate(tekup_tool_seconds_bucket{service="search"}[5m]))) > 2
    for_s: 300
    labels: {severity: warning, service: search}
    annotations:
      summary: searches take long
      description: One search of twenty takes more than two seconds.
"""
"""What the editor begins with."""


async def listed(visit: Visit) -> Response:
    """Every group of operators' rules with how each Prometheus has it, and every receiver."""
    groups, receivers = await visit.reads("/v1/rules", "/v1/receivers")
    return visit.page("rules.html", groups=groups["groups"], receivers=receivers["receivers"])


async def edit(visit: Visit) -> Response:
    """The editor, empty or with a group that there is."""
    name = visit.given("group")
    await visit.look()
    text = BEGIN
    if name:
        text = _text((await visit.read(api("rules", name)))["group"])
    return _editor(visit, name, text, known=bool(name))


async def tried(visit: Visit) -> Response:
    """The editor with what came of trying what stands in it."""
    name, text, known = visit.given("name").strip(), _given_text(visit), visit.given("known") == "yes"
    await visit.look()
    try:
        body = _group(text)
        answer = await visit.ask("POST", "/v1/rules/test", {**body, "name": name, "hours": HOURS})
    except Refusal as refusal:
        return _editor(visit, name, text, known=known, problem=refusal.detail)
    if not answer["good"]:
        return _editor(visit, name, text, known=known, problem=answer["problem"])
    return _editor(visit, name, text, known=known, found=answer, tests=len(body.get("tests", ())))


def _editor(
    visit: Visit,
    name: str,
    text: str,
    *,
    known: bool,
    problem: str = "",
    found: Json | None = None,
    tests: int = 0,
) -> Response:
    of_name = " name: " in f" {problem}" and "rules." not in problem
    return visit.page(
        "rule_editor.html",
        UNPROCESSABLE if problem else 200,
        name=name,
        text=text,
        known=known,
        problem=problem,
        of_name=of_name,
        found=found,
        tests=tests,
        hours=HOURS,
    )


async def put(visit: Visit) -> Response:
    """What adding would do; and doing it, once somebody has seen that."""
    action = _putting(visit)
    return await (carry_out if visit.given("seen") else confirm)(visit, action)


def _putting(visit: Visit) -> Action:
    name, text, known = visit.given("name").strip(), _given_text(visit), visit.given("known") == "yes"

    async def watched(visit: Visit) -> object:
        return await _there(visit, name)

    return Action(
        title=f"{'Replace' if known else 'Add'} alert rules {name}",
        says="Prometheus's own parser has checked them. They are live on every Prometheus some seconds later.",
        button="Replace rules" if known else "Add rules",
        back=at("alerts", "rules"),
        method="PUT",
        path=api("rules", name or "-"),
        body={**_group(text), "replace": known},
        watched=watched,
        kept=(("name", name), ("rules", text), ("known", "yes" if known else "no")),
    )


async def _there(visit: Visit, name: str) -> object:
    """The group as it is now; None where there is none."""
    try:
        return (await visit.read(api("rules", name or "-")))["group"]
    except Refusal as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return None


async def remove(visit: Visit) -> Action:
    """Remove a group."""
    name = visit.named("group")

    async def watched(visit: Visit) -> object:
        return await _there(visit, name)

    if await watched(visit) is None:
        raise Refusal(NOT_FOUND, "Not found", f"there are no alert rules {name}")
    return Action(
        title=f"Remove alert rules {name}",
        says="Nobody is told of these any more. A rollback brings them back.",
        button="Remove rules",
        back=at("alerts", "rules"),
        method="DELETE",
        path=api("rules", name),
        watched=watched,
        danger=True,
    )


def _given_text(visit: Visit) -> str:
    # Browsers end lines of a form with both signs, and tests of rules are compared as they are written.
    return visit.given("rules").replace("\r\n", "\n")[:LONGEST]


def _group(text: str) -> Json:
    """What stands in the editor.

    Raises:
        Refusal: It is no YAML, or no group.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = getattr(error, "problem", None) or str(error)
        raise Refusal(UNPROCESSABLE, "Refused", f"{where}this is no YAML: {said}") from error
    if not isinstance(found, dict):
        raise Refusal(UNPROCESSABLE, "Refused", "write `rules:` and below it the alerts, each with `alert` and `expr`")
    known = {"interval_s", "rules", "tests"}
    if strange := sorted(str(name) for name in found.keys() - known):
        raise Refusal(
            UNPROCESSABLE, "Refused", f"{', '.join(strange)}: not of a group; known are interval_s, rules, tests"
        )
    return found


def _text(group: Json) -> str:
    """A group as it stands in the editor: what has its default is left out."""
    rules = [{name: value for name, value in rule.items() if value} for rule in group["rules"]]
    whole = {"interval_s": group["interval_s"], "rules": rules, "tests": list(group["tests"])}
    return yaml.safe_dump(
        {name: value for name, value in whole.items() if value}, sort_keys=False, allow_unicode=True, width=100
    )
