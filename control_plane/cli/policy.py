"""``tekup traffic | gates``: where calls go, over the HTTP API; and where the groups of operators' verbs meet."""

from __future__ import annotations

import math
from typing import Annotated, Any, cast

import typer

from compose.local.errors import BadInput, LocalError
from compose.local.typed import typed
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first, ask_plainly
from control_plane.cli.client import Api
from control_plane.cli.clients import clients
from control_plane.cli.keys import keys
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of

traffic = typer.Typer(no_args_is_help=True, help="See and shift the traffic of services.")
gates = typer.Typer(no_args_is_help=True, help="The gates, and what each has in force.")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for name, group in (
        ("traffic", traffic),
        ("clients", clients),
        ("keys", keys),
        ("gates", gates),
    ):
        app.add_typer(group, name=name)


@traffic.command("show")
def traffic_show(
    service: Annotated[str | None, typer.Argument(help="One service; all without.")] = None, json: JsonFlag = False
) -> None:
    """Show each version's share and instances, and whether tool calls work there.

    Example: tekup traffic show filesystem
    """
    api = Api.here()
    answer = api.ask("GET", f"/v1/services/{part(service)}") if service is not None else api.ask("GET", "/v1/services")
    if json:
        show.as_json(answer)
        return
    found = rows_of(answer, "services") if service is None else [cast("dict[str, Any]", answer)]
    rows = [row for one in found for row in _traffic_rows(one)]
    columns = ("SERVICE", "VERSION", "SHARE", "INSTANCES", "PROBES", "")
    show.table(columns, rows, "No service yet; `tekup up` starts the first ones.")
    rolling = _rolling(api) if found else {}
    for one in found:
        for rule in one["policy"]["rules"] if one["policy"] else []:
            show.sentence(f"{one['name']} rule {rule['name']}: {_ruled(rule)}")
        if one["name"] in rolling:
            show.sentence(rolling[one["name"]])
        for instance in _failing(one["instances"]):
            typer.echo(typed(f"{one['name']} {instance['version']} {instance['id']}: {instance['probe']}"))


def _rolling(api: Api) -> dict[str, str]:
    """The rollouts under way, a sentence each, by service; none where they cannot be read, which says nothing here."""
    try:
        last = rows_of(api.ask("GET", "/v1/rollouts"), "rollouts")
    except LocalError:
        return {}
    return {
        one[
            "service"
        ]: f"rollout {one['service']} {one['stable']} -> {one['canary']} ({one['phase'].replace('_', ' ')}):"
        f" {one['traffic']}; see `tekup rollout status {one['service']}`"
        for one in last
        if not one["ended"]
    }


def _ruled(rule: dict[str, Any]) -> str:
    """Whose calls go where by a rule."""
    whose = [f"of {', '.join(rule['tools'])}"] if rule["tools"] else []
    whose += [f"of cohort {rule['cohort']}"] if rule["cohort"] else []
    lanes = [f"{lane['version']} {lane['weight_pct']:g} %" for lane in rule["lanes"]]
    lanes += [f"copies to {rule['mirror']}"] if rule["mirror"] else []
    return f"calls {' '.join(whose) or 'of all tools'} go to {', '.join(lanes)}"


def _traffic_rows(service: dict[str, Any]) -> list[tuple[str, ...]]:
    policy = service["policy"] or {"lanes": [], "stable": "", "closed": []}
    weights = {lane["version"]: lane["weight_pct"] for lane in policy["lanes"]}
    versions = sorted(weights.keys() | {one["version"] for one in service["instances"]})
    return [
        (
            service["name"],
            version,
            f"{weights.get(version, 0):g} %",
            _count(service, version),
            _probes(service, version),
            _mark(service, policy, version),
        )
        for version in versions
    ]


def _count(service: dict[str, Any], version: str) -> str:
    mine = [one for one in service["instances"] if one["version"] == version]
    serving = _serving(service, version)
    return f"{serving}" if serving == len(mine) else f"{serving} of {len(mine)} serving"


def _probes(service: dict[str, Any], version: str) -> str:
    mine = [one for one in service["instances"] if one["version"] == version]
    if failing := _failing(mine):
        return f"{len(failing)} of {len(mine)} failing"
    return "ok" if mine and all(one["probe"] == "ok" for one in mine) else "unknown" if mine else ""


def _failing(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in instances if one["probe"].startswith("failing")]


def _serving(service: dict[str, Any], version: str) -> int:
    return sum(
        one["version"] == version and one["passing"] and one["state"] == "serving" for one in service["instances"]
    )


def _mark(service: dict[str, Any], policy: dict[str, Any], version: str) -> str:
    if version in policy["closed"]:
        return "closed"
    marks = ["stable"] if version == policy["stable"] else []
    if any(lane["version"] == version and lane["weight_pct"] for lane in policy["lanes"]) and not _serving(
        service, version
    ):
        marks.append("its share goes to the others")  # as the gate does with a lane that nobody serves
    return ", ".join(marks)


@traffic.command("set")
def traffic_set(
    service: Annotated[str, typer.Argument(help="The service.")],
    weights: Annotated[list[str], typer.Argument(metavar="VERSION=PCT...", help="The rest goes to stable.")],
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Shift traffic; returns when every gate has it in force.

    Example: tekup traffic set filesystem 1.1.0=10 --reason "try the new version"
    """
    body: show.Json = {"weights_pct": _weights(weights), "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("PUT", f"/v1/services/{part(service)}/traffic", body)
    show.done(answer, f"traffic of {service}", json_wanted=json)


@traffic.command("forget")
def traffic_forget(
    service: Annotated[str, typer.Argument(help="The service.")],
    reason: Reason = NO_REASON,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Forget a service that is gone for good, once its instances are gone.

    Example: tekup traffic forget notes --reason "moved into search"
    """
    path = f"/v1/services/{part(service)}"
    ask_first("DELETE", path, f"Forget service {service}", silent=yes or dry_run or json, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"service {service} forgotten", json_wanted=json)


def _weights(texts: list[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for version, share in map(_weight, texts):
        if version in weights:
            raise BadInput(f"version {version} is named twice; give each version one share")
        weights[version] = share
    return weights


def _weight(text: str) -> tuple[str, float]:
    version, found, number = text.partition("=")
    try:
        share = float(number.removesuffix("%"))
    except ValueError:
        share = math.nan
    # `float` also reads nan and inf, which JSON cannot carry
    if found and version and math.isfinite(share):
        return version, share
    raise BadInput(f"{text!r} is not VERSION=PCT; for example 1.1.0=10")


@gates.command("list")
def gates_list(json: JsonFlag = False) -> None:
    """List gates, the revision each has in force, and its problems.

    Example: tekup gates list
    """
    answer = Api.here().ask("GET", "/v1/status")
    if json:
        show.as_json(answer["gates"])
        return
    rows = [
        (
            one["id"],
            "live" if one["live"] else "gone",
            f"{one['epoch']}/{one['revision']}",
            "; ".join(one["problems"]) or "-",
        )
        for one in rows_of(answer, "gates")
    ]
    show.table(("GATE", "AGENT", "REVISION", "PROBLEMS"), rows, "No gate has reported yet.")


@gates.command("forget")
def gates_forget(
    gate: Annotated[str, typer.Argument(help="Its id.")],
    reason: Reason = NO_REASON,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Stop waiting for a gate that is gone for good.

    Example: tekup gates forget eu-2 --reason "machine returned"
    """
    ask_plainly(f"Forget gate {gate}, and wait for it no more", silent=yes or dry_run or json)
    answer = Api.here().ask("DELETE", f"/v1/gates/{part(gate)}", params=reason_params(reason, dry_run=dry_run))
    if json:
        show.as_json(answer)
    else:
        typer.echo(f"gate {gate} {'would be ' if dry_run else ''}forgotten")
