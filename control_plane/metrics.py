"""What the control plane counts, each metric declared once, in a registry of its own.

Invariant: there is a series for an instance only while it is probed; one that left takes its series with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from control_plane.mirror import Mirrored
from observability.telemetry.exposition import exposed

T = TypeVar("T")
Told = tuple[str, str, float | None]

LABELS = ("service", "version", "instance")
_CHANGE_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Standing:
    """Where a replica stands at one moment.

    Attributes:
        leading: Whether it may write.
        epoch: Epoch of the newest revision that a gate runs.
        revision: Number of that revision.
        gates: Gates that have reported.
        lagging: Those of them that are gone or run an older one.
    """

    leading: bool
    epoch: int
    revision: int
    gates: int
    lagging: int


class _Standing:
    """Asks only when somebody looks."""

    def __init__(self, ask: Callable[[], Standing]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One reading."""
        now = self._ask()
        for name, text, value in (
            ("tekup_control_plane_leading", "1 on the replica that may write", int(now.leading)),
            ("tekup_policy_epoch", "Epoch of the newest revision that a gate runs", now.epoch),
            ("tekup_policy_revision", "Number of the newest revision that a gate runs", now.revision),
            ("tekup_gates", "Gates that have reported and were not forgotten", now.gates),
            ("tekup_gates_lagging", "Gates that are gone or run an older revision than the newest", now.lagging),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class _RefusedRegistrations:
    """Asks only when somebody looks."""

    def __init__(self, ask: Callable[[], Mapping[str, int]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One reading."""
        text = "Registrations in the catalog that are taken for nobody's instance"
        family = GaugeMetricFamily("tekup_registrations_refused", text, labels=["service"])
        for service, count in sorted(self._ask().items()):
            family.add_metric([service], count)
        yield family


class _Mirror:
    """Asks only when somebody looks."""

    def __init__(self, ask: Callable[[], Mirrored | None]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One reading; nothing of a replica that keeps no mirror now."""
        if (now := self._ask()) is None:
            return
        yield GaugeMetricFamily("tekup_git_mirror_revision", "Last revision that is in the mirror", value=now.number)
        text = "1 while the mirror is behind for a reason that does not pass by itself"
        yield GaugeMetricFamily("tekup_git_mirror_failing", text, value=int(bool(now.problem)))
        text = "1 while somebody's history is another than the one written down"
        family = GaugeMetricFamily("tekup_git_mirror_rewritten", text, labels=["whose"])
        for whose in ("mirror", "remote"):
            family.add_metric([whose], int(now.rewritten == whose))
        yield family


class _AuditLost:
    """Asks only when somebody looks."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One reading."""
        yield CounterMetricFamily("tekup_audit_lost", "Records that could not be written", value=self._ask())


class RolloutMetrics:
    """What there is to tell of rollouts; on the replica that leads.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._phase = Gauge(
            "tekup_rollout_phase", "1 for the phase the last rollout of a service is in", ["service", "phase"],
            registry=registry,
        )  # fmt: skip
        self._looks = Counter(
            "tekup_rollout_looks", "Looks at rollouts by what they came to", ["service", "verdict"], registry=registry
        )
        self._moved = Gauge(
            "tekup_rollout_moved_seconds",
            "When the rollout that runs last moved on, in seconds since the epoch; absent while none runs", ["service"],
            registry=registry,
        )  # fmt: skip
        self._ended = Counter(
            "tekup_rollout_ended", "Rollouts by how they ended", ["service", "outcome"], registry=registry
        )
        self._phases: dict[str, str] = {}
        self._running: set[str] = set()

    def shown(self, service: str, phase: str) -> None:
        """Note the phase of a service's last rollout."""
        before = self._phases.get(service)
        if before not in (None, phase):
            self._phase.remove(service, before)
        self._phases[service] = phase
        self._phase.labels(service, phase).set(1)

    def moved(self, service: str, at_s: float | None) -> None:
        """Note when a service's rollout last moved on; None while none runs."""
        if at_s is not None:
            self._running.add(service)
            self._moved.labels(service).set(at_s)
        elif service in self._running:
            self._running.discard(service)
            self._moved.remove(service)

    def expect(self, service: str, outcomes: Iterable[str]) -> None:
        """Show the series of a service from the start, as 0."""
        for outcome in outcomes:
            self._ended.labels(service, outcome)

    def ended(self, service: str, outcome: str) -> None:
        """Count a rollout that has ended."""
        self._ended.labels(service, outcome).inc()

    def looked(self, service: str, verdict: str) -> None:
        """Count a look."""
        self._looks.labels(service, verdict).inc()

    def resigned(self) -> None:
        """Drop all phases: another replica shows them."""
        for service, phase in self._phases.items():
            self._phase.remove(service, phase)
        self._phases.clear()
        for service in list(self._running):
            self.moved(service, None)


class ChangeMetrics:
    """What there is to tell of operators' changes.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._changes = Counter(
            "tekup_changes",
            "Operators' changes by what came of them: in_force, not_in_force (not on every gate in time), unchanged, or"
            " why they were not made",
            ["verb", "result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "tekup_change_seconds", "Seconds from an operator's call until the change was in force", ["verb"],
            buckets=_CHANGE_SECONDS, registry=registry,
        )  # fmt: skip

    def made(self, verb: str, result: str, seconds: float | None = None) -> None:
        """Count a change.

        Args:
            verb: What it was.
            result: What came of it.
            seconds: How long until it was in force; None where it is not.
        """
        self._changes.labels(verb, result).inc()
        if seconds is not None:
            self._seconds.labels(verb).observe(seconds)


class LossMetrics:
    """How many instances were lost; on the replica that leads.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lost = Counter(
            "tekup_instances_lost",
            "Live instances that were dead or gone without having been marked draining",
            ["service", "version"],
            registry=registry,
        )
        self._shown: set[tuple[str, str]] = set()

    def expect(self, versions: set[tuple[str, str]]) -> None:
        """Show the series of these services and versions from the start, as 0, and no others."""
        for version in versions - self._shown:
            self._lost.labels(*version)
        for version in self._shown - versions:
            self._lost.remove(*version)
        self._shown = set(versions)

    def lost(self, version: tuple[str, str]) -> None:
        """Count one."""
        self._shown.add(version)
        self._lost.labels(*version).inc()


class LaneMetrics:
    """How many there are to answer for each version that has a share; on the replica that leads.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._live = Gauge(
            "tekup_lane_instances",
            "Live instances of a version that the policy gives calls to; with 0 others answer for it",
            ["service", "target"],
            registry=registry,
        )
        self._shown: frozenset[tuple[str, str]] = frozenset()

    def show(self, live: Mapping[tuple[str, str], int]) -> None:
        """Show these services and targets, and no others."""
        for gone in self._shown - live.keys():
            self._live.remove(*gone)
        for lane, count in live.items():
            self._live.labels(*lane).set(count)
        self._shown = frozenset(live)


class ScalingMetrics:
    """How many instances there should be of what is autoscaled; on the replica that leads.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["service", "version"]
        self._gauges = (
            Gauge(
                "tekup_autoscale_wanted", "Instances that a version should have by its load, within its bounds", labels,
                registry=registry,
            ),
            Gauge(
                "tekup_autoscale_needed", "Instances that the load of a version asks for, whatever its bounds are",
                labels, registry=registry,
            ),
            Gauge("tekup_autoscale_most", "Instances that a version may have at most", labels, registry=registry),
        )  # fmt: skip
        self._shown: frozenset[tuple[str, str]] = frozenset()

    def show(self, numbers: Mapping[tuple[str, str], tuple[int, int, int]]) -> None:
        """Show these services and versions, and no others: wanted, needed and most of each."""
        for gone in self._shown - numbers.keys():
            for gauge in self._gauges:
                gauge.remove(*gone)
        for version, values in numbers.items():
            for gauge, value in zip(self._gauges, values, strict=True):
                gauge.labels(*version).set(value)
        self._shown = frozenset(numbers)


class _Latest(Generic[T]):
    """What was shown last, as metrics.

    Args:
        registry: Where it is shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seen: T | None = None
        registry.register(self)

    def show(self, seen: T | None) -> None:
        """Show this; None for nothing."""
        self._seen = seen

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One reading."""
        for name, text, value in () if self._seen is None else self._told(self._seen):
            if value is not None:
                yield GaugeMetricFamily(name, text, value=float(value))

    def _told(self, seen: T) -> tuple[Told, ...]:
        """Name, help and value of each metric; None: it is absent."""
        raise NotImplementedError


class BackupMetrics(_Latest[float]):
    """How old the last backup is, in seconds; on the replica that leads, once one was told."""

    def _told(self, seen: float) -> tuple[Told, ...]:
        text = "Seconds since the moment that the last backup shows; absent where none was told"
        return (("tekup_backup_age_seconds", text, seen),)


class StandbyMetrics(_Latest[tuple[float, float]]):
    """How old the standby replica of the workspace is, and its bound, in seconds; on the replica that leads."""

    def _told(self, seen: tuple[float, float]) -> tuple[Told, ...]:
        age = "Seconds since the moment that the standby replica shows; absent where none was told"
        bound = "Seconds that a loss of the machine costs at most while rounds go on as the last one did"
        return (("tekup_standby_age_seconds", age, seen[0]), ("tekup_standby_bound_seconds", bound, seen[1]))


@dataclass(frozen=True)
class RegionSeen:
    """How a region stands to the other.

    Attributes:
        home: Whether it writes policy.
        reachable: Whether the other one answers.
        behind_s: Seconds since it was last known to hold what the home does; None for the home, or before the first.
        behind: Revisions that it lacks; None where that is not known.
        left: Records that the home never had.
    """

    home: bool
    reachable: bool
    behind_s: float | None
    behind: int | None
    left: int


class RegionMetrics(_Latest[RegionSeen]):
    """How this region stands to the other; on the elected replica, where there are two regions."""

    def _told(self, seen: RegionSeen) -> tuple[Told, ...]:
        return (
            ("tekup_region_home", "1 where this region writes policy, 0 where it follows or hands over", seen.home),
            ("tekup_region_peer_reachable", "1 while the other region answers", seen.reachable),
            (
                "tekup_region_behind_seconds",
                "Seconds since this region last held what the home region does; absent at the home",
                seen.behind_s,
            ),
            ("tekup_region_behind_revisions", "Revisions of the home region that are not here yet", seen.behind),
            ("tekup_region_left_records", "Records of changes made here that the home region never had", seen.left),
        )


class KeeperMetrics:
    """How often containers were restarted because they lived and failed; on the replica that leads.

    Args:
        registry: Where it is shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restarts: Mapping[str, int] = {}
        registry.register(self)

    def show(self, restarts: Mapping[str, int]) -> None:
        """Show these numbers, by service, and no others."""
        self._restarts = restarts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One reading."""
        text = "Restarts of containers that lived and failed, since whoever restarts them began"
        family = CounterMetricFamily("tekup_keeper_restarts", text, labels=["service"])
        for service, count in self._restarts.items():
            family.add_metric([service], count)
        yield family


class PlaneMetrics:
    """The metrics of one replica.

    Args:
        standing: Tells where it stands now.
    """

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Standing(standing))
        self._ok = Gauge(
            "tekup_probe_ok",
            "1 when the last probe through the gate worked; instance is empty for a version's own target",
            LABELS,
            registry=self._registry,
        )
        self._failures = Counter(
            "tekup_probe_failures", "Probes through the gate that failed", LABELS, registry=self._registry
        )
        self._secret_file = Gauge(
            "tekup_secret_file_seconds",
            "When the file of the secret in use was written, in seconds since the epoch",
            ["secret"],
            registry=self._registry,
        )
        self._known: set[tuple[str, str, str]] = set()
        self.rollouts = RolloutMetrics(self._registry)
        self.changes = ChangeMetrics(self._registry)
        self.losses = LossMetrics(self._registry)
        self.lanes = LaneMetrics(self._registry)
        self.backups = BackupMetrics(self._registry)
        self.scaling = ScalingMetrics(self._registry)
        self.keeper = KeeperMetrics(self._registry)
        self.standbys = StandbyMetrics(self._registry)
        self.regions = RegionMetrics(self._registry)

    def watch_secret(self, secret: str, written_s: Callable[[], float]) -> None:
        """Show which of a secret's files is in use.

        Args:
            secret: `consul_token` or `keys`.
            written_s: Tells when the file was written, seconds since the epoch; 0 for none.
        """
        self._secret_file.labels(secret).set_function(written_s)

    def watch_mirror(self, shown: Callable[[], Mirrored | None]) -> None:
        """Show how far the git mirror is.

        Args:
            shown: Tells it; None where this replica keeps none now.
        """
        self._registry.register(_Mirror(shown))

    def watch_audit(self, lost: Callable[[], int]) -> None:
        """Show how many records of the audit trail were lost.

        Args:
            lost: Tells it.
        """
        self._registry.register(_AuditLost(lost))

    def watch_registrations(self, refused: Callable[[], Mapping[str, int]]) -> None:
        """Show how many registrations are refused.

        Args:
            refused: Tells how many there are now, by service.
        """
        self._registry.register(_RefusedRegistrations(refused))

    def probed(self, target: tuple[str, str, str], *, ok: bool) -> None:
        """Note how a probe ended.

        Args:
            target: Service, version, instance ("" for the version's own target).
            ok: Whether it worked.
        """
        self._known.add(target)
        self._ok.labels(*target).set(int(ok))
        failures = self._failures.labels(*target)  # there from the start, so that a first failure is an increase
        if not ok:
            failures.inc()

    def keep_only(self, targets: set[tuple[str, str, str]]) -> None:
        """Drop the series of everything else."""
        for gone in self._known - targets:
            self._ok.remove(*gone)
            self._failures.remove(*gone)
        self._known &= targets

    def shown(self, accept: str) -> tuple[bytes, str]:
        """Everything, as whoever asks can read it.

        Args:
            accept: The `Accept` header, "" without one.

        Returns:
            The text and its media type.
        """
        return exposed(self._registry, accept)
