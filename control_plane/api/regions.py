"""The routes of two regions: which writes policy, how far behind the other is, and what one tells the other."""

from __future__ import annotations

import hmac
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control_plane.api.bodies import Body, DryRun, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.errors import TekupError
from control_plane.region import Part, Url
from control_plane.regions import Regions, Shown


class RegionShown(Body):
    """This region, and the other as it is seen from here."""

    part: Part
    epoch: Annotated[int, Field(description="Of this region's revision, 0 where it has none.")]
    revision: int
    peer: Annotated[str, Field(description="The other region's operators' API, \"\" where there is none.")]
    reachable: Annotated[bool, Field(description="Whether the other one answers now.")]
    peer_part: Part | None
    peer_epoch: int
    peer_revision: int
    behind_s: Annotated[
        float | None, Field(description="Seconds since this was last known to hold what the home does; null: no say.")
    ]
    behind_revisions: int | None
    left: Annotated[int, Field(description="Records of changes made here that the home never had.")]
    author: Annotated[str, Field(description='Who said what this region is, "" for nobody.')]
    reason: str
    since: Annotated[float, Field(description="When, in seconds since the epoch; 0 for never.")]
    problem: Annotated[str, Field(description='Why the other does not answer or cannot be copied, "" for nothing.')]
    changed: Annotated[bool, Field(description="Whether the call had to change anything.")]
    waiting_for: Annotated[tuple[str, ...], Field(description="Gates that do not have the revision in force.")]

    @classmethod
    def of(cls, shown: Shown) -> RegionShown:
        """From what the control plane says."""
        told, other = shown.told, shown.other
        return cls(
            part=shown.part,
            epoch=shown.place[0],
            revision=shown.place[1],
            peer=shown.peer,
            reachable=other is not None,
            peer_part=other.part if other else None,
            peer_epoch=other.epoch if other else 0,
            peer_revision=other.number if other else 0,
            behind_s=shown.behind_s,
            behind_revisions=shown.behind,
            left=shown.left,
            author=told.author if told else "",
            reason=told.reason if told else "",
            since=told.at if told else 0,
            problem=shown.problem,
            changed=shown.changed,
            waiting_for=shown.waiting_for,
        )


class RegionWish(Body):
    """A change of what this region is."""

    reason: Reason
    dry_run: DryRun = False


class FollowWish(RegionWish):
    """Follow another region."""

    peer: Annotated[Url, Field(description="The home region's operators' API.")]
    over: Annotated[bool, Field(description="Put its policy over clients that are here and not there.")] = False


class TakeOverWish(RegionWish):
    """Be the home region."""

    peer: Annotated[Url | None, Field(description="The other region's operators' API; null: the one known.")] = None
    force: Annotated[bool, Field(description="Although the home answers.")] = False


class LeftChange(Body):
    """One document before and after; null where it was not there, or is kept in no record."""

    key: str
    before: str | None
    after: str | None


class LeftRecord(Body):
    """A change that was made here and that the home never had."""

    epoch: int
    revision: int
    at: float
    author: str
    verb: str
    reason: str
    changes: tuple[LeftChange, ...]
    touched: Annotated[int, Field(description="How many documents it changed, where they are too many to be shown.")]


class LeftRecords(Body):
    """All of them, oldest first."""

    records: tuple[LeftRecord, ...]


class Forgotten(Body):
    """How many records were forgotten."""

    records: int


async def shown(ask: Asked) -> RegionShown:
    """This region and the other."""
    return RegionShown.of(await ask.plane.regions.show())


async def follow(ask: Asked) -> RegionShown:
    """Follow another region."""
    body = ask.read(FollowWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    return RegionShown.of(await ask.plane.regions.follow(body.peer, wish, over=body.over))


async def take_over(ask: Asked) -> RegionShown:
    """Write policy from now on."""
    body = ask.read(TakeOverWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    return RegionShown.of(await ask.plane.regions.take_over(wish, peer=body.peer or "", force=body.force))


async def hand_over(ask: Asked) -> RegionShown:
    """Have the other region write policy from now on."""
    body = ask.read(RegionWish)
    return RegionShown.of(await ask.plane.regions.hand_over(ask.wish(body.reason, dry_run=body.dry_run)))


async def leave(ask: Asked) -> RegionShown:
    """Be a region by itself."""
    body = ask.read(RegionWish)
    return RegionShown.of(await ask.plane.regions.leave(ask.wish(body.reason, dry_run=body.dry_run)))


async def left(ask: Asked) -> LeftRecords:
    """What the home never had."""
    records = (
        LeftRecord(
            epoch=one.epoch,
            revision=one.number,
            at=one.at,
            author=one.author,
            verb=one.verb,
            reason=one.reason,
            changes=tuple(LeftChange(**change.model_dump()) for change in one.changes),
            touched=one.touched,
        )
        for one in await ask.plane.regions.left()
    )
    return LeftRecords(records=tuple(records))


async def forget_left(ask: Asked) -> Forgotten:
    """Forget what was left."""
    return Forgotten(records=await ask.plane.regions.forget_left(ask.wish()))


async def side(regions: Regions, request: Request) -> Response:
    """What one region tells the other, who shows the secret that both have."""
    query = request.query_params
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        secret = regions.neighbour.secret()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), secret.encode()):
            return JSONResponse({"detail": "the secret of the two regions is needed"}, 401)
        after = int(query.get("after", "0"))
        told = await regions.tell(stamp=query.get("stamp", ""), after=after, look=query.get("look") == "true")
    except ValueError:
        return JSONResponse({"detail": "after is no whole number"}, 422)
    except TekupError as error:
        return JSONResponse({"detail": str(error)}, 503)
    return Response(told.model_dump_json(), media_type="application/json")


REGION_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/region", "This region and the other", shown, RegionShown),
    ApiRoute("POST", "/v1/region/follow", "Follow another region", follow, RegionShown, FollowWish, own=True),
    ApiRoute("POST", "/v1/region/take-over", "Write policy here", take_over, RegionShown, TakeOverWish, own=True),
    ApiRoute(
        "POST", "/v1/region/hand-over", "Have the other write policy", hand_over, RegionShown, RegionWish, own=True
    ),
    ApiRoute("POST", "/v1/region/leave", "Be a region by itself", leave, RegionShown, RegionWish, own=True),
    ApiRoute("GET", "/v1/region/left", "Changes that the home never had", left, LeftRecords),
    ApiRoute("DELETE", "/v1/region/left", "Forget them", forget_left, Forgotten, own=True),
)
