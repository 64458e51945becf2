"""The control plane at work: leads, takes in services first seen, and carries out the verbs of operators.

A verb ends when its change is *in force*: every gate that counts reports the revision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx

from control_plane import decide
from control_plane.alertmanager import Alertmanager
from control_plane.backups import Backups
from control_plane.book import Beside, Book, Edit, Held, Page, Place, nothing
from control_plane.delivery import Delivery
from control_plane.errors import Conflict, NotInitialised, NotLeader, Refused, Stale, TekupError, Unavailable
from control_plane.form import Raised, Raising, behind
from control_plane.gates import GATES_PREFIX, Gates
from control_plane.leadership import Leadership
from control_plane.losses import Losses
from control_plane.metrics import PlaneMetrics, Standing
from control_plane.mirror import Mirrored, mirrored
from control_plane.model import (
    Change,
    Instance,
    Policy,
    Revision,
    ServicePolicy,
    Stored,
    Table,
    versions_of,
)
from control_plane.once import ASKED, Once
from control_plane.operators import Operators
from control_plane.outcome import Outcome, Wish
from control_plane.page import found
from control_plane.ports import Catalog, Gateway, Store, Write
from control_plane.probing import Pace, Probing, Wishes
from control_plane.receiving import Receivers
from control_plane.regions import Regions
from control_plane.registry import Registry
from control_plane.replicas import Replicas
from control_plane.rights import Rights
from control_plane.roles import refuse_outside
from control_plane.rules import Rules
from control_plane.scaling import Around, Autoscaling
from control_plane.sealed import Sealing
from control_plane.sealing import keep_sealed
from control_plane.shelf import Shelf
from control_plane.staffing import staffing
from control_plane.standbys import Standbys
from control_plane.state import State
from control_plane.trail import Trail
from control_plane.usage import Usage
from observability.telemetry.about import platform_version
from observability.telemetry.traces import root_span, span, trace_id

__all__ = ["ControlPlane", "Outcome", "Wish"]

T = TypeVar("T")
Documents = dict[Place, Stored | None]
log = logging.getLogger(__name__)

IN_FORCE_TIMEOUT_S = 10.0
RETRY_S = 0.5
FINISH_EVERY_S = 1.0
LOSSES_EVERY_S = 1.0
STAFFING_EVERY_S = 2.0
RIGHTS = (Table.CLIENTS.prefix, Table.KEYS.prefix)


@dataclass(frozen=True)
class Written:
    """A change that is written, and not known to be in force.

    Attributes:
        edit: The change.
        began_s: When it was begun, monotonic.
        revision: What holds it.
        changed: Whether the policy had to be changed for it.
        changes: Every document before and after.
        dry_run: It is not written, only looked at.
    """

    edit: Edit
    began_s: float
    revision: Revision
    changed: bool
    changes: tuple[Change, ...] = ()
    dry_run: bool = False


class ControlPlane:
    """One replica.

    Args:
        store: Where policy lies.
        catalog: Who has registered.
        leadership: Whether we may write.
        accept_new: Give a service first seen all its traffic without asking.
        in_force_timeout_s: How long a verb waits for the gates before it names those that lag.
        now: Seconds since the epoch.
        gateway: Leads through a gate to single targets; without one nothing is probed.
        pace: How much is probed.
        sealing: How hashes of keys are to lie in the store.
        gate_http: Asks gates when keys were last used; without one that is not known.
        fixed: Instances that stand in no catalog.
        alertmanager: Keeps silences.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        leadership: Leadership,
        *,
        gateway: Gateway | None = None,
        pace: Pace | None = None,
        accept_new: bool = True,
        in_force_timeout_s: float = IN_FORCE_TIMEOUT_S,
        now: Callable[[], float] = time.time,
        sealing: Sealing | None = None,
        gate_http: httpx.AsyncClient | None = None,
        fixed: Iterable[Instance] = (),
        alertmanager: Alertmanager | None = None,
    ) -> None:
        self.gates = Gates(store)
        self.leadership = leadership
        self.replicas = Replicas(store, leadership)
        self._losses = Losses()
        self.registry = Registry(catalog, self._losses, fixed)
        self._store = store
        self._book = Book(store)
        self._accept_new = accept_new
        self._in_force_timeout_s = in_force_timeout_s
        self._now = now
        self._shelf = Shelf(store)
        self._http = gate_http
        self._writing = asyncio.Lock()
        self._taken_in: frozenset[str] = frozenset()
        self.metrics = PlaneMetrics(self._standing)
        self.probing: Probing | None = None
        if gateway:
            self.probing = Probing(
                self.instances, gateway, self._declared_probes, leadership, self.metrics, pace or Pace(), now=now
            )
        self.state = State(self._book, self.page, self._carry_out, self.instances, now)
        self.rights = Rights(self._carry_out, now, sealing)
        self.operators = Operators(store, self._carry_out, now)
        self.audit = Trail(store, leadership, now)
        self.once = Once(store, leadership, now)
        self.metrics.watch_audit(lambda: self.audit.lost)
        self.rules = Rules(self._carry_out)
        self.receivers = Receivers(self._carry_out)
        self.alertmanager = alertmanager or Alertmanager("")
        around = Around(partial(self.page, afresh=False), partial(self._carry_out, rights=False), self.instances, now)
        self.scaling = Autoscaling(store, leadership, around, self.metrics.scaling, gateway)
        self.backups = Backups(store, leadership, self.metrics.backups, now)
        self.standbys = Standbys(store, leadership, self.metrics.standbys, now)
        self.regions = Regions(
            store,
            leadership,
            self._book,
            self.gates,
            self._writing,
            self._written,
            sealing,
            self.metrics.regions,
            now,
            in_force_timeout_s,
        )
        self.usage = Usage(store, catalog, self.gates, leadership, gate_http, now) if gate_http else None

    async def run(self) -> None:
        """Lead or stand by, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.leadership.run())
            tasks.create_task(self.gates.run())
            tasks.create_task(self.registry.run())
            tasks.create_task(self._take_in())
            tasks.create_task(self._finish_begun())
            tasks.create_task(self._count_losses())
            tasks.create_task(self._watch_lanes())
            tasks.create_task(keep_sealed(self.rights, self.leadership))
            tasks.create_task(self.audit.run())
            tasks.create_task(self.scaling.run())
            tasks.create_task(self.backups.run())
            tasks.create_task(self.standbys.run())
            tasks.create_task(self.regions.run())
            if self.usage:
                tasks.create_task(self.usage.run())
            if self.probing:
                tasks.create_task(self.probing.run())

    async def _count_losses(self) -> None:
        while True:
            now_s, leading = time.monotonic(), self.leadership.elected
            lost = self._losses.turn(now_s, leading=leading)
            self.metrics.losses.expect(self._losses.versions(now_s) if leading else set())
            for version in lost:
                self.metrics.losses.lost(version)
                log.warning("instance.lost", extra={"service": version[0], "version": version[1]})
            await asyncio.sleep(LOSSES_EVERY_S)

    async def _watch_lanes(self) -> None:
        while True:
            with suppress(TekupError):  # what was shown stays: alerts about Consul say why
                leading = self.leadership.elected and self.registry.complete
                decided = (await self.page(afresh=False)).all(Table.SERVICES, ServicePolicy) if leading else {}
                self.metrics.lanes.show(staffing(decided.values(), self.instances()))
            await asyncio.sleep(STAFFING_EVERY_S)

    def _standing(self) -> Standing:
        epoch, number = self.gates.running
        known = self.gates.all.values()
        lagging = sum(not gate.live or gate.report.place < (epoch, number) for gate in known)
        return Standing(self.leadership.elected, epoch, number, len(known), lagging)

    async def _declared_probes(self) -> Wishes:
        page = await self.page(afresh=False)
        calls = {name: delivery.probes for name, delivery in page.all(Table.DELIVERY, Delivery).items()}
        decided = page.all(Table.SERVICES, ServicePolicy).items()
        return Wishes(calls, frozenset((name, version) for name, policy in decided for version in policy.closed))

    async def service_names(self) -> frozenset[str]:
        """The services in the policy, read afresh.

        Raises:
            NotInitialised: There is no policy.
        """
        return frozenset((await self.page()).tables[Table.SERVICES])

    async def policy(self) -> Policy:
        """The present policy, read afresh.

        Raises:
            Refused: A document makes no sense.
        """
        return (await self.page()).policy()

    async def page(self, *, afresh: bool = True) -> Page:
        """The same unparsed: one document that makes no sense does not hide the rest."""
        async with self._writing:
            return await self._read(partial(self._book.page, afresh=afresh))

    async def _whole(self) -> Page:
        """The page to write on: whole, and not older than what the gates run."""
        await self._finish()
        page = await self._read(self._book.whole)
        held, running = page.revision, self.gates.running
        if held.place < running:
            raise Conflict(
                f"a gate runs epoch {running[0]} revision {running[1]}, but Consul holds {held.epoch}/{held.number}: an"
                " older state was restored. Accept it with `tekup state repair`, or restore a newer one"
            )
        return page

    async def _finish(self) -> None:
        if finished := await self._book.finish(self.leadership.fence()):
            log.info("change.finished", extra={"revision": finished.number})
            self._written(finished)

    async def _read(self, read: Callable[[], Awaitable[Page]]) -> Page:
        try:
            return await read()
        except NotInitialised as error:
            raise self._lost(error) from error

    def _lost(self, error: NotInitialised) -> NotInitialised:
        epoch, number = self.gates.running
        if not epoch:
            return error
        return NotInitialised(
            f"a gate runs epoch {epoch} revision {number}, but Consul holds no policy: its data is lost."
            " Restore a backup, or begin anew with `tekup state init --force`, without weights, clients and keys"
        )

    async def mirror(self) -> Mirrored | None:
        """How far the git mirror is; None where there is none."""
        return await mirrored(self._store)

    def instances(self) -> tuple[Instance, ...]:
        """All registered instances."""
        return self.registry.instances

    async def init(self, wish: Wish, *, force: bool = False) -> tuple[Revision, bool]:
        """Begin with an empty policy where there is none.

        Args:
            wish: Who and why.
            force: Begin a new epoch although a gate still runs an older one: all its services and keys are then lost.

        Returns:
            The revision, and whether it was begun now.

        Raises:
            Conflict: A gate runs a policy that Consul does not hold: its data is lost, not new.
        """
        async with self._writing:
            try:
                return (await self._book.page()).revision, False
            except NotInitialised:
                epoch = self._next_epoch(force)
            log.info("state.init", extra={"author": wish.author, "reason": wish.reason, "epoch": epoch})
            revision = await self._book.begin(epoch, self.leadership.fence(), at_s=self._now())
            self._written(revision)
            return revision, True

    def _next_epoch(self, force: bool) -> int:
        if not self.gates.all and not force:
            # A gate that runs the policy of before is the only one who knows that there was a before.
            raise Unavailable(
                "no gate has reported yet, so a first start and lost data look alike: start a gate's agent,"
                " or begin without with `tekup state init --force`"
            )
        epoch = self.gates.running[0]
        if epoch and not force:
            raise Conflict(str(self._lost(NotInitialised())))
        return epoch + 1

    async def repair(self, wish: Wish) -> Outcome:
        """Accept what lies in the store; see :meth:`control_plane.book.Book.repair`."""
        edit = Edit("state.repair", wish.author, wish.reason, trace=trace_id(), asked=ASKED.get())
        async with self._writing:
            began_s = time.monotonic()
            revision, changed = await self._book.repair(
                edit, self.leadership.fence(), at_s=self._now(), gates=Held(self.gates.running, self.gates.revoked)
            )
            self._written(revision)
        return await self.ended(Written(edit, began_s, revision, changed), rights=True)

    async def restore(self, wish: Wish) -> Outcome:
        """Put back what the last revision says; see :meth:`control_plane.book.Book.restore`."""
        _need_reason("state.restore", wish)
        edit = Edit("state.restore", wish.author, wish.reason, trace=trace_id(), asked=ASKED.get())
        async with self._writing:
            began_s = time.monotonic()
            revision, changed = await self._book.restore(edit, self.leadership.fence(), at_s=self._now())
            self._written(revision)
        return await self.ended(Written(edit, began_s, revision, changed), rights=True)

    async def raise_form(self, wish: Wish) -> Raised:
        """Bring what lies in the store to the form of this version; see :mod:`control_plane.form`."""
        _need_reason("state.upgrade", wish)

        async def older() -> Sequence[str]:
            others = (await self.replicas.cast()).replicas
            urls = {one.replica: one.url for one in others if one != self.leadership.me}
            return await behind(self._http, urls) if self._http else list(urls)

        async with self._writing:
            raising = Raising(self._store, self.leadership.fence, platform_version())
            raised = await raising.carry_out(older, dry_run=wish.dry_run)
        log.info("state.upgrade", extra={"author": wish.author, "reason": wish.reason, "form": raised.after})
        return raised

    async def note(self, what: str, wish: Wish) -> Outcome:
        """Write down what was done outside the policy, such as new secrets, where everything else is written down."""
        _need_reason("note", wish)
        edit = Edit("note", wish.author, f"{what}: {wish.reason}", trace=trace_id(), asked=ASKED.get())
        async with self._writing:
            began_s = time.monotonic()
            revision = await self._book.note(await self._whole(), edit, self.leadership.fence(), at_s=self._now())
            self._written(revision)
        return await self.ended(Written(edit, began_s, revision, changed=True), rights=False)

    async def set_traffic(self, service: str, weights_pct: Mapping[str, float], wish: Wish) -> Outcome:
        """Shift a service's traffic; see :func:`control_plane.decide.set_traffic`."""

        def shift(page: Page) -> Documents:
            known = versions_of(self.registry.instances, service)
            there = page.find(Table.SERVICES, service, ServicePolicy)
            current = there or found(decide.admitted(service, weights_pct, known), f"service {service}")
            return {(Table.SERVICES, service): decide.set_traffic(current, weights_pct, known)}

        return await self._carry_out("traffic.set", wish, shift, rights=False, guarded=True)

    async def forget_service(self, service: str, wish: Wish) -> Outcome:
        """Take a service that is gone for good out of the policy; if it ever comes again, it is first seen again."""

        def forget(page: Page) -> Documents:
            found(page.find(Table.SERVICES, service, ServicePolicy), f"service {service}")
            there = [one.id for one in self.instances() if one.service == service]
            if there:
                raise Refused(f"service {service} has instances ({', '.join(there)}); stop them first")
            return {(Table.SERVICES, service): None}

        return await self._carry_out("service.forget", wish, forget, rights=False, guarded=True)

    async def forget_gate(self, gate_id: str, wish: Wish) -> None:
        """Stop waiting for a gate that is gone for good."""
        gate = found(self.gates.all.get(gate_id), f"gate {gate_id}")
        if gate.live:
            raise Refused(f"gate {gate_id} is alive; stop its agent first")
        if wish.dry_run:
            return
        log.info("gate.forget", extra={"gate": gate_id, "author": wish.author, "reason": wish.reason})
        await self._store.commit([Write(GATES_PREFIX + gate_id, None)], self.leadership.own_fence())

    async def _carry_out(
        self,
        verb: str,
        wish: Wish,
        change: Callable[[Page], Documents],
        *,
        rights: bool | None,
        guarded: bool = False,
    ) -> Outcome:
        """Make a change and wait until it is in force.

        Args:
            verb: Its name in the record.
            wish: Who and why.
            change: From the present page to the documents to write.
            rights: Whether it is about keys or rights, which gates whose agent is gone must have too; None: as the
                documents say.
            guarded: Refuse it for services whose rollout runs.
        """
        try:
            written = await self.write(verb, wish, change, guarded=guarded)
        except TekupError as error:
            self.metrics.changes.made(verb, type(error).__name__.lower())
            raise
        return await self.ended(written, rights=rights)

    async def write(
        self,
        verb: str,
        wish: Wish,
        change: Callable[[Page], Documents],
        beside: Beside = nothing,
        *,
        guarded: bool = False,
    ) -> Written:
        """Write a change of the policy, and do not wait for the gates.

        Args:
            verb: What it is, for the record.
            wish: Who and why.
            change: The documents to store, given the page they are decided on.
            beside: See :meth:`control_plane.book.Book.write`.
            guarded: Refuse it for services whose rollout runs.
        """
        _need_reason(verb, wish)
        async with self._writing:
            fence = self.leadership.fence()
            page = await self._whole()
            if wish.expected_number not in (None, page.revision.number):
                raise Conflict(
                    f"{verb}: you read revision {wish.expected_number}, it is {page.revision.number} now; read it again"
                )
            if wish.match and page.tag(*wish.match[:2]) != wish.match[2]:
                table, key, tag = wish.match
                raise Stale(
                    f"{verb}: {table.prefix}{key} is not as you read it (If-Match {tag}, it is {page.tag(table, key)}"
                    " now); read it again"
                )
            began_s = time.monotonic()
            with span("decide", tekup_verb=verb, tekup_dry=wish.dry_run) as deciding:
                edit = Edit(verb, wish.author, wish.reason, change(page), trace_id(), ASKED.get())
                changes = self._book.preview(page, edit)
                refuse_outside(wish.services, changes)
                await self.rules.refuse_broken(changes)
                await self.receivers.refuse_broken(changes)
                deciding.note(tekup_documents=len(changes))
            if guarded:
                await self._refuse_if_rolling_out(_services(changes))
            if wish.dry_run:
                return Written(edit, began_s, page.revision, bool(changes), changes, dry_run=True)
            with span("consul write", client=True, tekup_verb=verb) as writing:
                revision, changed = await self._book.write(page, edit, fence, at_s=self._now(), beside=beside)
                writing.note(tekup_revision=revision.number, tekup_epoch=revision.epoch)
            self._written(revision)
        return Written(edit, began_s, revision, changed, changes)

    async def _refuse_if_rolling_out(self, services: Iterable[str]) -> None:
        """Refuse a change of services whose rollout runs: the rollout is who moves their traffic.

        Raises:
            Conflict: Naming the first of them.
        """
        for name in services:
            held = await self._shelf.held(name)
            if held and not held.rollout.phase.ended:
                raise Conflict(
                    f"rollout {held.rollout.title} is under way and decides the traffic of {name}; steer it with"
                    f" `tekup rollout`, or end it first: tekup rollout abort {name}"
                )

    async def ended(self, written: Written, *, rights: bool | None) -> Outcome:
        """Wait until a change is in force; `rights`: also on gates whose agent is gone, None: as the documents say."""
        edit, revision, changes = written.edit, written.revision, written.changes
        if written.dry_run:
            return Outcome(revision, written.changed, (), 0.0, changes, dry_run=True)
        rights = any(change.key.startswith(RIGHTS) for change in changes) if rights is None else rights
        with span("wait for gates", tekup_revision=revision.number, tekup_epoch=revision.epoch) as waiting:
            lagging = await self.gates.in_force(revision.place, also_gone=rights, timeout_s=self._in_force_timeout_s)
            waiting.note(tekup_lagging=len(lagging))
        outcome = Outcome(revision, written.changed, lagging, time.monotonic() - written.began_s, changes)
        result = "not_in_force" if lagging else "in_force" if written.changed else "unchanged"
        self.metrics.changes.made(edit.verb, result, None if lagging else outcome.in_force_s)
        log.info(
            edit.verb,
            extra={
                "author": edit.author,
                "reason": edit.reason,
                "revision": revision.number,
                "changed": written.changed,
                "waiting_for": list(lagging),
                "in_force_ms": round(outcome.in_force_s * 1000, 1),
            },
        )
        return outcome

    async def _finish_begun(self) -> None:
        """As the leader, end a change of many documents that was begun and not ended; see ``staged``."""
        said = ""
        while True:
            await self.leadership.held()
            try:
                async with self._writing:
                    await self._finish()
                said = ""
            except (NotLeader, Refused, Unavailable) as error:
                if str(error) != said:
                    log.warning("change.not_finished", extra={"why": str(error)})
                said = str(error)
            await asyncio.sleep(FINISH_EVERY_S)

    def _written(self, revision: Revision) -> None:
        self.gates.written(revision)
        self.audit.wake()
        self._taken_in = frozenset()  # a service may have left the policy

    async def _take_in(self) -> None:
        """Give every service first seen its first version at 100 %, as long as we lead."""
        change = self.registry.next_change()
        while True:
            await self.leadership.held()
            change = self.registry.next_change() if change.is_set() else change
            try:
                await self._take_in_new()
            except (NotInitialised, NotLeader, Refused, Unavailable) as error:
                log.warning("services.not_taken_in", extra={"why": str(error)})
                await asyncio.sleep(RETRY_S)
                continue
            await change.wait()

    async def _take_in_new(self) -> None:
        live: dict[str, Instance] = {}
        for instance in sorted(self.registry.instances):
            if instance.live:
                live.setdefault(instance.service, instance)
        if live.keys() <= self._taken_in:
            return  # instances may come and go many times a second, and reading the policy is what verbs wait for
        page = await self.page()
        self._taken_in = frozenset(page.tables[Table.SERVICES])
        for name, instance in live.items():
            if name in page.tables[Table.SERVICES]:
                continue
            if not self._accept_new:
                log.warning("service.waits_for_approval", extra={"service": name, "version": instance.version})
                continue
            document = decide.first_seen(name, instance.version)
            edit = Edit(
                "service.first-seen", "control-plane", "first instance seen", {(Table.SERVICES, name): document}
            )
            with root_span("service first seen", tekup_service=name) as taking_in:
                async with self._writing:
                    page = await self._whole()
                    revision, _ = await self._book.write(page, edit, self.leadership.fence(), at_s=self._now())
                    self._written(revision)
                taking_in.note(tekup_revision=revision.number, tekup_epoch=revision.epoch)
            log.info("service.first_seen", extra={"service": name, "version": instance.version})


def _need_reason(verb: str, wish: Wish) -> None:
    if not wish.reason.strip():
        raise Refused(f"{verb}: a reason is needed; say why in a few words")


def _services(changes: Iterable[Change]) -> list[str]:
    prefix = Table.SERVICES.prefix
    return [change.key.removeprefix(prefix) for change in changes if change.key.startswith(prefix)]
