"""`tekup doctor`: looks at programs, settings, ports and processes, and names a remedy for each fault it finds.

It changes nothing and fetches nothing. A check is a function that yields findings; later checks are added to
`CHECKS`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from .bridged.declared import declared
from .certificate_check import certificate_seen
from .checks import consul, disk, instances, private_files, scraping
from .errors import BadSettings, LocalError, ProgramUnavailable
from .finding import CALL_S, Finding, Patient, get
from .layout import Layout
from .leftovers import family, identity, read_record
from .link import Link
from .observability import OAUTH
from .operators_api import PlaneStatus, ServiceShown, first_to_answer
from .ports import chosen_ports, holder, is_free
from .programs import NEEDED, Found, Resolver, asked_programs
from .progress import Silent
from .settings import Origin, load, named_ports

LEAF = "tekup_leaf_expires_seconds"
HOUR_S = 3600.0
LEAST_H = 6.0
"""Consul renews a certificate of 72 hours when at least 7 are left."""
LOST = 'docs/how-to.md, "When Consul has lost its data" and what follows it'


def examine(layout: Layout) -> list[Finding]:
    """Look at everything.

    Returns:
        All findings, good ones too.
    """
    try:
        effective = load(layout)
    except BadSettings as error:
        return [Finding("settings", False, str(error), "correct them; `tekup config show` lists what can be set")]
    try:
        status = Link(layout).status_if_running() if layout.state.is_dir() else None
    except LocalError as error:
        return [Finding("supervisor", False, str(error), "run `tekup down`, then `tekup up`")]
    patient = Patient(layout, effective, status)
    return [finding for check in CHECKS for finding in check(patient)]


def programs(patient: Patient) -> Iterator[Finding]:
    """Each outside program: version and origin."""
    yield from asyncio.run(_programs(patient))


async def _programs(patient: Patient) -> list[Finding]:
    resolver = Resolver(Silent(), fetch=False)
    given = patient.effective.settings.browser_executable
    wanted = (*NEEDED, *asked_programs(patient.effective.settings.extras))
    results = await asyncio.gather(*(resolver.find(name) for name in wanted), return_exceptions=True)
    findings = []
    for name, result in zip(wanted, results, strict=True):
        if name == "chromium" and given:
            findings.append(Finding(name, True, f"{given}, set by MCP_BROWSER_EXECUTABLE"))
        elif isinstance(result, Found):
            findings.append(Finding(name, True, f"{result.version} from {result.origin}, {result.path}"))
        elif isinstance(result, ProgramUnavailable):
            said, _, remedy = str(result).rpartition("\n  What to do: ")
            findings.append(Finding(name, False, said, f"`tekup up` tries to fetch it; or {remedy}"))
        elif isinstance(result, BaseException):
            raise result
    return findings


def ports(patient: Patient) -> Iterator[Finding]:
    """Each port that is a setting: ours, free or taken."""
    if not patient.layout.state.is_dir():
        named = {name: port for name, port in named_ports(patient.effective.settings).items() if port}
    else:
        named = chosen_ports(named_ports(patient.effective.settings), patient.layout.ports)
    for name, port in named.items():
        if is_free(port):
            missing = patient.status is not None
            yield Finding(
                name, not missing, f"{port}, nobody listens", "see below which process is missing or not ready"
            )
        elif patient.status is not None:
            yield Finding(name, True, f"{port}, in use by this environment")
        else:
            yield Finding(name, False, f"{port}, taken by {holder(port)}", f"stop it, or set {name}")


def supervisor(patient: Patient) -> Iterator[Finding]:
    """The supervisor and its processes."""
    layout, status = patient.layout, patient.status
    if status is None:
        record = read_record(layout.processes)
        left = family(record.values(), identity(layout.identity)) if record else []
        said = f"not running, but {len(left)} of its processes are" if left else "not running"
        yield Finding("supervisor", not left, said, "`tekup down` ends them, `tekup up` starts anew")
        return
    yield Finding("supervisor", True, f"runs, pid {status.pid}")
    for process in status.processes:
        said = process.state if process.ready else f"{process.state}: {process.problem}"
        yield Finding(process.name, process.ready, said, f"tekup logs {process.name}; tekup restart {process.name}")


def certificate(patient: Patient) -> Iterator[Finding]:
    """The certificate of the public entrypoint, where it has one."""
    processes = patient.status.processes if patient.status else ()
    url = next((process.url for process in processes if process.name == "traefik" and process.pid), "")
    settings = patient.effective.settings
    if url.startswith("https:") and patient.effective.origins["MCP_TLS"] is Origin.DEFAULT:  # `tekup up --tls`
        settings = settings.model_copy(update={"tls": "local"})
    address = url.removeprefix("https://") if url.startswith("https:") else ""
    for seen in certificate_seen(patient.layout, settings, address, datetime.now(UTC)):
        yield Finding("TLS", seen.ok, seen.said, seen.remedy)


def policy(patient: Patient) -> Iterator[Finding]:
    """What the control plane and the gates say of themselves, where there is a control plane."""
    processes = patient.status.processes if patient.status else ()
    try:
        found = first_to_answer(patient.layout, processes, CALL_S)
        if not found:
            return
        api, status = found
        yield from plane_findings(status)
        if status.initialised:
            yield from service_findings(api.services())
        yield from map(rollout_finding, status.waiting)
    except (OSError, ValueError, LocalError) as error:
        yield Finding("operators' API", False, str(error), "tekup logs control-plane; tekup restart control-plane")


def plane_findings(status: PlaneStatus) -> Iterator[Finding]:
    """Leadership, policy, and each gate."""
    if not status.leading and not status.leader:
        yield Finding("leadership", False, "no control plane leads, so nothing can be changed",
                      "wait some seconds; then tekup logs control-plane, tekup logs consul")  # fmt: skip
    said = f"{status.epoch}/{status.revision}" if status.initialised else status.message or "there is none"
    yield Finding("policy", status.initialised, said, f"`tekup state init` on a first start; else {LOST}")
    if status.mirror:
        yield Finding("git mirror", False, status.mirror, "docs/runbooks/GitMirrorRewritten.md")
    if not status.gates:
        yield Finding("gates", False, "none has reported", "tekup logs agent; tekup restart agent")
    for gate in status.gates:
        in_force = f"{gate.epoch}/{gate.revision}"
        faults = [(problem, f"tekup logs agent; {LOST}") for problem in gate.problems]
        if not gate.live:
            faults.append((f"its agent is gone, it goes on serving {in_force}",
                           f"tekup restart agent; if it is gone for good, tekup gates forget {gate.id}"))  # fmt: skip
        if status.initialised and (gate.epoch, gate.revision) < (status.epoch, status.revision):
            faults.append((f"has {in_force} in force, the policy is {said}", "tekup logs agent; tekup restart agent"))
        for fault, remedy in faults:
            yield Finding(f"gate {gate.id}", False, fault, remedy)
        if not faults:
            yield Finding(f"gate {gate.id}", True, f"{in_force} in force")


def rollout_finding(said: str) -> Finding:
    """A rollout that waits for a person: worth knowing, and no fault."""
    what, _, why = said.partition(": ")
    return Finding(what, True, why)


def service_findings(services: Iterable[ServiceShown]) -> Iterator[Finding]:
    """Whether the stable version of each service is served, and by instances on which a tool call works."""
    for service in services:
        if service.policy is None:
            continue
        stable, name = service.policy.stable, service.name
        serving = [one.version for one in service.instances if one.passing and one.state == "serving"]
        others = ", ".join(sorted(set(serving) - {stable}))
        instead = f"{others} takes its calls" if others else "its calls get 503"
        said = f"{stable} serves" if stable in serving else f"no instance of the stable {stable} serves, {instead}"
        remedy = f"tekup status; tekup scale {name}=1 --version {stable}; or make another version stable"
        yield Finding(f"service {name}", stable in serving, said, remedy)
        for one in service.instances:
            if one.probe.startswith("failing"):
                said = f"{one.version} {one.id} is there, but {one.probe.removeprefix('failing: ')}"
                yield Finding(f"service {name}", False, said, f"tekup logs {name}; tekup restart {name}")


def lists(patient: Patient) -> Iterator[Finding]:
    """What services list and the hub shows nobody, and what bridges leave out of their servers' lists.

    Any hub tells, since all read the same, and so does any instance of a bridge.
    """
    ask = patient.consul
    if ask is None:
        return
    try:
        names = ("hub", *(one.name for one in declared(patient.layout)))
        tell = [one for name in names for one in ask(f"/v1/health/service/mcp-{name}?passing=true")[:1]]
        if tell:
            yield from list_findings(bad for one in tell for bad in get(f"{_admin(one)}/state")["quarantined"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        said = f"the hub cannot be asked: {error or type(error).__name__}"
        yield Finding("lists", False, said, "tekup logs hub; tekup restart hub")


def list_findings(quarantined: Iterable[Mapping[str, str]]) -> Iterator[Finding]:
    """One finding for each thing put aside."""
    good = True
    for one in quarantined:
        good = False
        what = f"{one['item']!r} in its {one['method']}" if one["item"] else f"its {one['method']} as a whole"
        said = f"{what} is shown to nobody: {one['reason']}"
        yield Finding(f"service {one['service']}", False, said, f"mend the service; tekup logs {one['service']}")
    if good:
        yield Finding("lists", True, "all that services list is shown")


def certificates(patient: Patient) -> Iterator[Finding]:
    """When the certificate of each instance ends that has one; the gate's agent tells of its own."""
    ask = patient.consul
    if ask is None:
        return
    try:
        for name in sorted(name for name in ask("/v1/catalog/services") if name.startswith("mcp-")):
            for entry in ask(f"/v1/health/service/{name}?passing=true"):
                for line in (line for line in _text(f"{_admin(entry)}/metrics").splitlines() if line.startswith(LEAF)):
                    yield certificate_finding(entry["Service"]["ID"], float(line.split()[1]))
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        said = f"they cannot be looked at: {error or type(error).__name__}"
        yield Finding("certificates", False, said, "tekup logs consul; tekup status")


def certificate_finding(who: str, left_s: float) -> Finding:
    """A certificate that nears its end has not been renewed, so Consul does not answer the instance."""
    said = f"its certificate ends in {max(left_s, 0) / HOUR_S:.1f} hours"
    remedy = "Consul has not renewed it: tekup logs consul, then tekup restart of the instance"
    return Finding(f"certificate {who}", left_s > LEAST_H * HOUR_S, said, remedy)


def oauth(patient: Patient) -> Iterator[Finding]:
    """Whether the keys of each authorization server are at hand, where such are believed."""
    processes = patient.status.processes if patient.status else ()
    url = next((process.url for process in processes if process.name == OAUTH and process.pid), "")
    if not url:
        return
    try:
        for issuer, problem in get(f"{url}/ready")["issuers"].items():
            remedy = f"see that {issuer} answers from here; tekup logs {OAUTH}"
            yield Finding(f"issuer {issuer}", not problem, problem or "its keys are at hand", remedy)
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        said = f"it cannot be asked: {str(error) or type(error).__name__}"
        yield Finding(OAUTH, False, said, f"tekup logs {OAUTH}; tekup restart {OAUTH}")


def _admin(entry: Mapping[str, Any]) -> str:
    """The admin port of an instance, as the catalog has it."""
    service = entry["Service"]
    return f"http://{service['Address']}:{service['Meta']['admin']}"


def _text(url: str) -> str:
    return httpx.get(url, timeout=CALL_S, trust_env=False).raise_for_status().text


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    programs,
    ports,
    disk,
    private_files,
    supervisor,
    consul,
    certificate,
    policy,
    instances,
    lists,
    certificates,
    scraping,
    oauth,
)
