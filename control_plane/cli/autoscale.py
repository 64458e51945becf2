"""``tekup autoscale``: let the number of a service's instances follow its load, and see why it is what it is."""

from __future__ import annotations

import time
from typing import Annotated, Any, cast

import typer

from compose.local.errors import BadInput
from control_plane.cli import show
from control_plane.cli.client import Api
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of

autoscale = typer.Typer(no_args_is_help=True, help="Let the number of instances follow the load.")
Service = Annotated[str, typer.Argument(help="The service.")]


@autoscale.command("show")
def autoscale_show(
    service: Annotated[str | None, typer.Argument(help="One service; all without.")] = None, json: JsonFlag = False
) -> None:
    """Show how many instances there should be, how many there are, and why.

    Example: tekup autoscale show search
    """
    api = Api.here()
    answer = api.ask("GET", "/v1/autoscale" if service is None else f"/v1/services/{part(service)}/autoscale")
    if json:
        show.as_json(answer)
        return
    found = rows_of(answer, "services") if service is None else [cast("dict[str, Any]", answer)]
    rows = [row for one in found for row in _rows(one)]
    columns = ("SERVICE", "VERSION", "WANTED", "LIVE", "BOUNDS", "SINCE")
    show.table(columns, rows, "No service is autoscaled; `tekup autoscale set NAME --max 4` begins.")
    for one in found:
        name = one["policy"]["service"]
        if one["policy"]["dry_run"]:
            show.sentence(f"{name}: only recommended; `tekup autoscale set {name} --act` lets it be done")
        for version in one["versions"]:
            show.sentence(f"{name} {version['version']}: {version['why']}")


def _rows(one: dict[str, Any]) -> list[tuple[str, ...]]:
    policy = one["policy"]
    bounds = f"{policy['min']} to {policy['max']}"
    rows: list[tuple[str, ...]] = [
        (
            policy["service"],
            version["version"],
            str(version["wanted"]),
            str(version["live"]),
            bounds,
            f"{max(0, time.time() - version['changed']):.0f} s" if version["changed"] else "-",
        )
        for version in one["versions"]
    ]
    return rows or [(policy["service"], "-", "-", "-", bounds, "-")]


@autoscale.command("set")
def autoscale_set(
    service: Service,
    fewest: Annotated[int | None, typer.Option("--min", min=1, help="Fewest instances.")] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Most instances.")] = None,
    in_flight: Annotated[
        float | None, typer.Option("--in-flight", min=0, help="Calls under way meant for each; 0: they do not count.")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", min=0, help="Processors meant to be busy at each; 0: they do not count.")
    ] = None,
    queue_ms: Annotated[
        float | None, typer.Option("--queue-ms", min=0, help="Longest mean wait of a call; 0: it does not count.")
    ] = None,
    up_cooldown: Annotated[
        float | None, typer.Option("--up-cooldown", min=1, help="Seconds between a change and a step up.")
    ] = None,
    down_cooldown: Annotated[
        float | None, typer.Option("--down-cooldown", min=1, help="Seconds of less load before a step down.")
    ] = None,
    act: Annotated[
        bool | None, typer.Option("--act/--recommend", help="Start and stop instances, or only say so.")
    ] = None,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Begin or change it; what is not named stays as it is, or has its default.

    Example: tekup autoscale set search --min 1 --max 4 --in-flight 4
    """
    api = Api.here()
    named = {
        "min": fewest, "max": most, "in_flight": in_flight, "cpus": cpus, "queue_ms": queue_ms,
        "up_cooldown_s": up_cooldown, "down_cooldown_s": down_cooldown,
        "dry_run": None if act is None else not act,
    }  # fmt: skip
    changes: dict[str, float | bool | None] = {name: value for name, value in named.items() if value is not None}
    for sign in ("in_flight", "cpus", "queue_ms"):
        if changes.get(sign) == 0:
            changes[sign] = None
    present = [one["policy"] for one in rows_of(api.ask("GET", "/v1/autoscale"), "services")]
    before: dict[str, Any] = next((policy for policy in present if policy["service"] == service), {})
    if before and not changes:
        raise BadInput(f"{service} is autoscaled already; say what to change, for example --max 6")
    body: show.Json = {"policy": {**before, **changes}, "reason": reason, "dry_run": dry_run}
    answer = api.ask("PUT", f"/v1/services/{part(service)}/autoscale", body)
    show.done(answer, f"autoscaling of {service}", json_wanted=json)


@autoscale.command("off")
def autoscale_off(
    service: Service, reason: Reason = NO_REASON, dry_run: DryRunFlag = False, json: JsonFlag = False
) -> None:
    """Leave a service's instances as many as they are; `tekup scale` is theirs again.

    Example: tekup autoscale off search
    """
    path = f"/v1/services/{part(service)}/autoscale"
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"autoscaling of {service} off", json_wanted=json)
