"""The routes of rollouts."""

from __future__ import annotations

import time
from collections.abc import Callable

from control_plane import steer
from control_plane.api import rollout_bodies as bodies
from control_plane.api.route import ApiRoute, Asked
from control_plane.checks import Plan, default_checks
from control_plane.contract import Waiver
from control_plane.engine import Start
from control_plane.lint import warnings
from control_plane.loop import Outcome
from control_plane.review import Span
from control_plane.roles import Role
from control_plane.rollout import Rollout

MOST_OF_A_REASON = 200


def _done(rollout: Rollout, outcome: Outcome) -> bodies.RolloutDone:
    return bodies.RolloutDone.after(rollout, outcome, time.time())


async def rollouts(ask: Asked) -> bodies.Rollouts:
    """The last rollout of every service."""
    held = (await ask.engine.shelf.all()).values()
    return bodies.Rollouts(rollouts=tuple(bodies.RolloutShown.of(one.rollout, time.time()) for one in held))


async def rollout(ask: Asked) -> bodies.RolloutShown:
    """The last rollout of a service."""
    return bodies.RolloutShown.of(await ask.engine.shelf.one(ask.path["service"]), time.time())


async def past_rollouts(ask: Asked) -> bodies.Rollouts:
    """All rollouts of a service that are kept, the newest first."""
    found = await ask.engine.shelf.past(ask.path["service"])
    return bodies.Rollouts(rollouts=tuple(bodies.RolloutShown.of(one, time.time()) for one in found))


async def start_rollout(ask: Asked) -> bodies.RolloutDone:
    """Begin a rollout."""
    body = ask.read(bodies.RolloutWish)
    waivers = tuple(Waiver(what=glob, reason=body.reason[:MOST_OF_A_REASON]) for glob in body.waive)
    wanted = Start(body.version, body.changes(), waivers, body.replace)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return _done(*await ask.engine.start(ask.path["service"], wish, wanted))


async def retry_rollout(ask: Asked) -> bodies.RolloutDone:
    """Begin the last rollout once more, as it was."""
    body = ask.read(bodies.VerbWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return _done(*await ask.engine.retry(ask.path["service"], wish))


async def pause_rollout(ask: Asked) -> bodies.RolloutDone:
    """Hold a rollout where it is."""
    return await _steered(ask, "pause", steer.pause)


async def resume_rollout(ask: Asked) -> bodies.RolloutDone:
    """Go on after a pause."""
    return await _steered(ask, "resume", steer.resume)


async def promote_rollout(ask: Asked) -> bodies.RolloutDone:
    """Agree, or end the present step; `full`: give the canary everything now."""
    full = ask.read(bodies.VerbWish).full
    return await _steered(ask, "promote", lambda held, by: steer.promote(held, by, full=full))


async def abort_rollout(ask: Asked) -> bodies.RolloutDone:
    """Give stable everything at once."""
    drain = ask.read(bodies.VerbWish).drain
    return await _steered(ask, "abort", lambda held, by: steer.abort(held, by, drain=drain))


async def undo_rollout(ask: Asked) -> bodies.RolloutDone:
    """Flip back to the version before the last rollout."""
    drain = ask.read(bodies.VerbWish).drain
    return await _steered(ask, "undo", lambda held, by: steer.undo(held, by, drain=drain))


async def lint_rollout(ask: Asked) -> bodies.Linted:
    """Look over how a rollout would go, without starting it."""
    body = ask.read(bodies.LintWish)
    delivery = await ask.engine.delivery(ask.path["service"], body.model_dump(mode="json", exclude_none=True))
    cohorts = {client.cohort for client in (await ask.plane.policy()).clients.values()}
    return bodies.Linted(delivery=delivery, warnings=warnings(delivery, cohorts))


async def review_rollout(ask: Asked) -> bodies.Reviewed:
    """What the analysis would have said of two versions in the past."""
    body = ask.read(bodies.ReviewWish)
    from_s = time.time() - body.since_s
    until_s = time.time() if body.for_s is None else min(time.time(), from_s + body.for_s)
    plan = Plan(body.stable, body.canary, default_checks(tuple(dict.fromkeys(body.tools))))
    return bodies.Reviewed.of(await ask.engine.review(ask.path["service"], plan, Span(from_s, until_s)))


async def _steered(ask: Asked, verb: str, move: Callable[[Rollout, steer.By], Rollout]) -> bodies.RolloutDone:
    body = ask.read(bodies.VerbWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return _done(*await ask.engine.steer(ask.path["service"], verb, wish, move))


_AT = "/v1/services/{service}/rollout"
ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/rollouts", "Last rollout of every service", rollouts, bodies.Rollouts),
    ApiRoute("GET", _AT, "Last rollout of a service", rollout, bodies.RolloutShown),
    ApiRoute("GET", f"{_AT}s", "Rollouts of a service", past_rollouts, bodies.Rollouts),
    ApiRoute(
        "POST", _AT, "Start a rollout", start_rollout, bodies.RolloutDone, bodies.RolloutWish, needs=Role.OPERATOR
    ),
    ApiRoute(
        "POST", f"{_AT}/lint", "Look a rollout over", lint_rollout, bodies.Linted, bodies.LintWish, needs=Role.VIEWER
    ),
    ApiRoute(
        "POST", f"{_AT}/review", "Judge the past", review_rollout, bodies.Reviewed, bodies.ReviewWish, needs=Role.VIEWER
    ),
    *(
        ApiRoute("POST", f"{_AT}/{verb}", summary, answer, bodies.RolloutDone, bodies.VerbWish, needs=Role.OPERATOR)
        for verb, summary, answer in (
            ("pause", "Hold a rollout", pause_rollout),
            ("resume", "Go on after a pause", resume_rollout),
            ("promote", "Agree, or end the step", promote_rollout),
            ("abort", "Back to stable at once", abort_rollout),
            ("undo", "Flip back", undo_rollout),
            ("retry", "Start the last one again", retry_rollout),
        )
    ),
)
