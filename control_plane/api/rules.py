"""Routes of alert rules and silences."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field, JsonValue

from control_plane.alert_rules import MOST_RULES, AlertRule, RuleGroup
from control_plane.alertmanager import Matcher, Silence, Wanted, refuse_others
from control_plane.api.bodies import Body, Done, DryRun, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.errors import Refused, Unavailable
from control_plane.model import Name, Table, compact_json
from control_plane.page import found
from control_plane.roles import Role
from control_plane.rules import DAY_S, Fired, Loaded

MOST_SILENCE_S = 30 * 86_400


class GroupWish(Body):
    """A group of alert rules, whole."""

    interval_s: Annotated[int, Field(ge=0, le=3600)] = 0
    rules: Annotated[tuple[AlertRule, ...], Field(min_length=1, max_length=MOST_RULES)]
    tests: Annotated[
        tuple[dict[str, JsonValue], ...], Field(max_length=20, description="In promtool's form; all have to pass.")
    ] = ()

    def group(self, name: str) -> RuleGroup:
        """As it is to be stored."""
        fields = self.model_dump(mode="json", include={"interval_s", "rules", "tests"})
        return RuleGroup.parse(compact_json({"name": name, **fields}), f"alert rules {name}")


class NewGroup(GroupWish):
    """A group to add, or to put in the place of the one of its name."""

    replace: Annotated[bool, Field(description="Put it in the place of one that differs.")] = False
    reason: Reason
    expected_revision: int | None = None
    dry_run: DryRun = False


class TriedGroup(GroupWish):
    """A group to try."""

    name: Name = "tried"
    hours: Annotated[float, Field(gt=0, le=24 * 14, description="How far to look back.")] = DAY_S / 3600


class LoadedShown(Body):
    """How one Prometheus has a group."""

    prometheus: str
    health: Annotated[str, Field(description="`live`, `not loaded`, `older`, `unhealthy` or `not asked`.")]
    why: str = ""

    @classmethod
    def of(cls, one: Loaded) -> LoadedShown:
        """From what the core says."""
        return cls(prometheus=one.prometheus, health=one.health, why=one.why)


class GroupShown(Body):
    """A group of alert rules."""

    group: RuleGroup
    loaded: tuple[LoadedShown, ...]


class Groups(Body):
    """All groups."""

    revision: int
    groups: tuple[GroupShown, ...]


class GroupDone(Done):
    """What became of a group."""

    live: Annotated[bool, Field(description="Every Prometheus has loaded it.")]
    lacking: Annotated[tuple[LoadedShown, ...], Field(description="Those that have not.")] = ()


class FiredShown(Body):
    """How often an alert would have fired."""

    alert: str
    times: int
    firing_s: Annotated[float, Field(description="Altogether.")]

    @classmethod
    def of(cls, one: Fired) -> FiredShown:
        """From what the core says."""
        return cls(alert=one.alert, times=one.times, firing_s=one.firing_s)


class Tried(Body):
    """What came of trying a group."""

    good: bool
    problem: Annotated[str, Field(description="In the words of Prometheus's own parser or test runner.")]
    hours: float
    fired: tuple[FiredShown, ...] = ()
    unknown: Annotated[str, Field(description='Why it is not known what would have fired; "" if it is.')] = ""


class Silences(Body):
    """Silences that are not over."""

    silences: tuple[Silence, ...]


class NewSilence(Body):
    """A silence to make."""

    matchers: Annotated[tuple[Matcher, ...], Field(min_length=1, max_length=20)]
    for_s: Annotated[int, Field(ge=60, le=MOST_SILENCE_S, description="How long, from now.")]
    reason: Reason
    dry_run: DryRun = False


class SilenceDone(Body):
    """What became of a silence."""

    id: str
    dry_run: bool = False


async def rules(ask: Asked) -> Groups:
    """Every group of operators' alert rules, and how each Prometheus has it."""
    page = await ask.plane.page()
    groups = page.all(Table.RULES, RuleGroup)
    loaded = await ask.plane.rules.loaded(list(groups.values()))
    return Groups(
        revision=page.revision.number, groups=tuple(_shown(one, loaded[name]) for name, one in groups.items())
    )


async def rule_group(ask: Asked) -> GroupShown:
    """One group."""
    name = ask.path["group"]
    group = found((await ask.plane.page()).find(Table.RULES, name, RuleGroup), f"alert rules {name}")
    return _shown(group, (await ask.plane.rules.loaded([group]))[name])


def _shown(group: RuleGroup, loaded: tuple[Loaded, ...]) -> GroupShown:
    return GroupShown(group=group, loaded=tuple(LoadedShown.of(one) for one in loaded))


async def put_rules(ask: Asked) -> GroupDone:
    """Add a group, or put it in the place of another; ends when every Prometheus has it."""
    body = ask.read(NewGroup)
    group = body.group(ask.path["group"])
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    done = Done.of(await ask.plane.rules.put(group, wish, add=not body.replace))
    lacking = () if body.dry_run else await ask.plane.rules.until_live(group)
    shown = tuple(LoadedShown.of(one) for one in lacking)
    return GroupDone(**dict(done), live=not lacking and not body.dry_run, lacking=shown)


async def remove_rules(ask: Asked) -> Done:
    """Remove a group."""
    return Done.of(await ask.plane.rules.remove(ask.path["group"], ask.wish()))


async def try_rules(ask: Asked) -> Tried:
    """Check a group, run its tests, and say how often it would have fired; nothing is written."""
    body = ask.read(TriedGroup)
    group = body.group(body.name)
    if problem := await ask.plane.rules.problem_of(group):
        return Tried(good=False, problem=problem, hours=body.hours)
    try:
        told = await ask.plane.rules.would_have_fired(group, body.hours * 3600)
    except (Unavailable, Refused) as error:
        return Tried(good=True, problem="", hours=body.hours, unknown=str(error))
    return Tried(good=True, problem="", hours=body.hours, fired=tuple(FiredShown.of(one) for one in told))


async def silences(ask: Asked) -> Silences:
    """Silences that are not over."""
    return Silences(silences=await ask.plane.alertmanager.silences())


async def add_silence(ask: Asked) -> SilenceDone:
    """Make a silence."""
    body = ask.read(NewSilence)
    refuse_others(ask.operator.services, body.matchers)
    if body.dry_run:
        return SilenceDone(id="", dry_run=True)
    now = time.time()
    wanted = Wanted(
        matchers=body.matchers, starts_s=now, ends_s=now + body.for_s, author=ask.operator.name, reason=body.reason
    )
    return SilenceDone(id=await ask.plane.alertmanager.add(wanted))


async def expire_silence(ask: Asked) -> SilenceDone:
    """End a silence now."""
    there = await ask.plane.alertmanager.one(ask.path["silence"])
    refuse_others(ask.operator.services, there.matchers)
    if not ask.dry_run:
        await ask.plane.alertmanager.expire(there.id)
    return SilenceDone(id=there.id, dry_run=ask.dry_run)


ONE, QUIET = "/v1/rules/{group}", "/v1/silences"
GROUP = (Table.RULES, "group")
RULE_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/rules", "Operators' alert rules", rules, Groups),
    ApiRoute(
        "POST", "/v1/rules/test", "Try alert rules", try_rules, Tried, TriedGroup, needs=Role.OPERATOR, looks=True
    ),
    ApiRoute("GET", ONE, "One group of alert rules", rule_group, GroupShown, about=GROUP),
    ApiRoute("PUT", ONE, "Add or replace alert rules", put_rules, GroupDone, NewGroup, about=GROUP),
    ApiRoute("DELETE", ONE, "Remove alert rules", remove_rules, Done, about=GROUP),
    ApiRoute("GET", QUIET, "Silences that are not over", silences, Silences),
    ApiRoute(
        "POST", QUIET, "Silence alerts", add_silence, SilenceDone, NewSilence, needs=Role.OPERATOR, by_object=True
    ),
    ApiRoute(
        "DELETE",
        QUIET + "/{silence}",
        "End a silence",
        expire_silence,
        SilenceDone,
        needs=Role.OPERATOR,
        by_object=True,
    ),
)
