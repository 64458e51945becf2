"""Checks of `tekup doctor` that ask the machine, Consul and Prometheus; the others are in `doctor`."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from .finding import Finding, Patient, get
from .layout import Layout

GIB = 1 << 30
LEAST_BYTES = GIB
LOW_SHARE = 0.05
LOW_BYTES = 10 * GIB
"""Five hundredths of a large disk are plenty: below this many bytes as well they are not."""
SHOWN_CHARS = 160
GONE = "connection refused"
"""What Consul and Prometheus say of an instance that was killed, until Consul forgets it: nothing is to be done."""


def disk(patient: Patient) -> Iterator[Finding]:
    """Whether there is room where the environment lies."""
    folder = patient.layout.directory
    usage = shutil.disk_usage(folder)
    low = usage.free < LEAST_BYTES or (usage.free < LOW_BYTES and usage.free < LOW_SHARE * usage.total)
    said = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free{', which is nearly full' if low else ''}"
    remedy = (
        f"free some of {folder}: .tekup/logs, .tekup/prometheus, or what is not ours; docs/runbooks/DiskNearlyFull.md"
    )
    yield Finding("disk", not low, said, remedy)


def private_files(patient: Patient) -> Iterator[Finding]:
    """Whether nobody else may read keys, tokens and secrets."""
    found = sorted(_private(patient.layout))
    open_to_others = [(path, path.stat().st_mode & 0o777) for path in found if path.stat().st_mode & 0o077]
    for path, mode in open_to_others:
        name = path.relative_to(patient.layout.directory)
        remedy = f"chmod 600 {path}; if somebody may have read it: tekup secrets rotate --all, tekup keys rotate"
        yield Finding("secrets", False, f"others may read {name} ({mode:03o})", remedy)
    if found and not open_to_others:
        yield Finding("secrets", True, f"{len(found)} files that nobody else may read")


def _private(layout: Layout) -> Iterator[Path]:
    alone = (layout.operator_token, layout.client_key, layout.authority / "ca.key")
    yield from (path for path in alone if path.is_file())
    if layout.secrets.is_dir():
        yield from (path for path in layout.secrets.rglob("*") if path.is_file() and path.suffix != ".pem")


def consul(patient: Patient) -> Iterator[Finding]:
    """Whether Consul answers, and has a leader."""
    if patient.status is None:
        return
    problem = patient.consul_problem
    remedy = "calls go on, changes wait until it is back: tekup logs consul; tekup restart consul"
    yield Finding("Consul", not problem, problem or "it answers, and has a leader", remedy)


def instances(patient: Patient) -> Iterator[Finding]:
    """Instances that the registry holds for unfit; one that drains is on its way out."""
    ask = patient.consul
    if ask is None:
        return
    try:
        services = sorted(name for name in ask("/v1/catalog/services") if name.startswith("mcp-"))
        entries = [entry for name in services for entry in ask(f"/v1/health/service/{name}")]
        faults = [fault for entry in entries for fault in _unfit(patient, entry)]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        faults = [Finding("instances", False, f"Consul cannot tell of them: {error or type(error).__name__}",
                          "tekup logs consul; tekup status")]  # fmt: skip
        entries = []
    yield from faults
    if entries and not faults:
        yield Finding("instances", True, f"{len(entries)} in the registry, none of them unfit")


def _unfit(patient: Patient, entry: Mapping[str, Any]) -> Iterator[Finding]:
    service = entry["Service"]
    bad = [check for check in entry["Checks"] if check["Status"] != "passing"]
    if not bad or service["Meta"].get("state") == "draining":
        return
    name = _process_of(patient, service["Meta"].get("instance", ""))
    if not name and all(GONE in str(check["Output"]) for check in bad):
        return
    remedy = (
        f"tekup logs {name}; tekup restart {name}"
        if name
        else "no process of this environment: whoever started it stops it"
    )
    said = "; ".join(f"{check['Status']}: {' '.join(str(check['Output']).split())[:SHOWN_CHARS]}" for check in bad)
    yield Finding(f"instance {service['ID']}", False, f"{name or service['Service']} is {said}", remedy)


def _process_of(patient: Patient, instance: str) -> str:
    processes = patient.status.processes if patient.status else ()
    return next((process.name for process in processes if instance and process.instance == instance), "")


def _of_the_dead(patient: Patient, target: Mapping[str, Any]) -> bool:
    ours = _process_of(patient, target["labels"].get("instance", ""))
    return target["labels"]["job"] == "instances" and not ours and GONE in target["lastError"]


def scraping(patient: Patient) -> Iterator[Finding]:
    """Whether Prometheus gets what it asks for, where it runs."""
    process = patient.process("prometheus")
    if process is None:
        return
    try:
        targets = get(f"{process.url}/api/v1/targets?state=active")["data"]["activeTargets"]
        down = [one for one in targets if one["health"] == "down" and not _of_the_dead(patient, one)]
        for one in down:
            labels = one["labels"]
            who = " ".join(filter(None, (labels["job"], labels.get("service", ""), labels.get("instance", ""))))
            remedy = "tekup status: does it run? tekup logs prometheus; docs/runbooks/ScrapeMissing.md"
            yield Finding("Prometheus", False, f"cannot scrape {who}: {one['lastError'][:SHOWN_CHARS]}", remedy)
        if not down:
            remedy = "tekup logs prometheus; tekup restart prometheus"
            yield Finding("Prometheus", bool(targets), f"scrapes all of {len(targets)} targets", remedy)
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        said = f"{process.url} does not answer: {str(error) or type(error).__name__}"
        yield Finding("Prometheus", False, said, "no rollout is judged meanwhile: tekup restart prometheus")
