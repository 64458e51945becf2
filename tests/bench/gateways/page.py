"""The figures for a terminal, docs/benchmarks.md and its picture. Pure."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.gateways.measure import Calls, Changed, Death
from tests.bench.gateways.standing import BARE, CONTEXTFORGE, DIRECT, OURS
from tests.bench.tools import Row, many, ratio, spread

MIDDLE = 8
"""So many clients where a figure is of one load only."""
_TEXT = Path(__file__).with_name("benchmarks.md.tmpl")


@dataclass(frozen=True)
class Measured:
    """One gateway asked in one era.

    Args:
        name: The gateway.
        era: The protocol version.
        on: What it does besides carrying.
        calls: By how many clients.
        memory_mib: Of its processes, before the first call and after the last.
        beside_mib: Of what must run beside them.
        session_kib: What an idle session adds; None where there are none, or nothing holds them.
        death: What a dead server of three cost; None where calls are not spread.
        changed: What changes of the configuration cost; None where they take a restart.
        listed: Lists of a thousand tools.
    """

    name: str
    era: str
    on: str
    calls: Mapping[int, Calls]
    memory_mib: tuple[float, float]
    beside_mib: float
    session_kib: float | None
    death: Death | None
    changed: Changed | None
    listed: Calls | None


@dataclass(frozen=True)
class Found:
    """A whole run.

    Args:
        measured: The gateways.
        bridges: Figures of bridges before a server over stdio.
        missing: What was left out, and why.
    """

    measured: Sequence[Measured]
    bridges: Sequence[Row]
    missing: Mapping[str, str]
    seconds: int
    rounds: int
    machine: str
    date: str

    def of(self, name: str, era: str) -> Measured | None:
        """One gateway in one era, None if that was not measured."""
        return next((one for one in self.measured if (one.name, one.era) == (name, era)), None)


def lines(found: Found) -> Iterator[str]:
    """The figures for a terminal."""
    for one in found.measured:
        yield f"{one.name}, {one.era} (on: {one.on})"
        for clients, calls in one.calls.items():
            p50, p95, p99 = calls.times_ms
            yield (f"  {clients:2} clients: {spread(calls.per_second)} calls/s, p50 {p50:.1f}, p95 {p95:.1f}, "
                   f"p99 {p99:.1f} ms, {calls.cpu_ms:.2f} ms of processor a call, {calls.failed} failed")  # fmt: skip
        yield f"  {', '.join(_others(one))}"
    yield from (f"{name}: {figures}" for name, figures in found.bridges)
    yield from verdicts(found)
    yield from (f"left out: {name}: {why}" for name, why in found.missing.items())


def _others(one: Measured) -> Iterator[str]:
    yield f"memory {one.memory_mib[0]:.0f} MiB, {one.memory_mib[1]:.0f} after the load"
    if one.session_kib is not None:
        yield f"{one.session_kib:.1f} KiB an idle session"
    if one.death:
        yield f"a server of three dies: {one.death.failed} of {one.death.calls} calls failed"
    if one.changed:
        yield f"its configuration changes: {one.changed.failed} of {one.changed.calls} calls failed"
    if one.listed:
        yield f"1,000 tools listed in {one.listed.times_ms[0]:.1f} ms"


def verdicts(found: Found) -> Iterator[str]:
    """What was promised of ours against two of them, and how it is."""
    for era in _eras(found):
        ours, bare = found.of(OURS, era), found.of(BARE, era)
        if ours and bare:
            for clients, mine in ours.calls.items():
                theirs = bare.calls[clients]
                yield (f"{era}, {many(clients)}, ours over Traefik with nothing but a router: calls/s "
                       f"{ratio(mine.per_second, theirs.per_second):.2f}x (wanted 0.9x or more), p50 "
                       f"{ratio(mine.p50_ms, theirs.p50_ms):.2f}x (wanted 1.1x or less)")  # fmt: skip
        forge = found.of(CONTEXTFORGE, era) or next((one for one in found.measured if one.name == CONTEXTFORGE), None)
        if ours and forge:
            by = "" if forge.era == era else f" by {forge.era}, which is all it speaks"
            for clients, mine in ours.calls.items():
                theirs = forge.calls[clients]
                yield (f"{era}, {many(clients)}, ours over ContextForge{by}: calls/s "
                       f"{ratio(mine.per_second, theirs.per_second):.1f}x (wanted 10x or more), p95 "
                       f"{ratio(mine.p95_ms, theirs.p95_ms):.3f}x (wanted 0.2x or less)")  # fmt: skip


def document(found: Found) -> str:
    """docs/benchmarks.md."""
    return string.Template(_TEXT.read_text()).substitute(
        date=found.date, machine=found.machine, seconds=found.seconds, rounds=found.rounds,
        calls="\n".join(_calls(found)), costs="\n".join(_costs(found)),
        verdicts="\n".join(f"- {said}." for said in verdicts(found)),
        lost="\n".join(f"- {said}." for said in _lost(found)) or "- Nothing in this run.",
        features="\n".join(f"- {name}: {on}." for name, on in {one.name: one.on for one in found.measured}.items()),
        bridges="\n".join(f"| {name.removeprefix('bridges, ')} | {figures} |" for name, figures in found.bridges),
        missing="\n".join(f"- {name}: {why}" for name, why in found.missing.items()) or "- Nothing in this run.",
    )  # fmt: skip


def _calls(found: Found) -> Iterator[str]:
    for one in found.measured:
        cells = []
        for calls in one.calls.values():
            p50, p95, p99 = calls.times_ms
            failed = f", {calls.failed} failed" if calls.failed else ""
            cells.append(f"{calls.rate:,.0f}{failed} | {p50:.1f} / {p95:.1f} / {p99:.1f}")
        yield f"| {one.name} | {one.era} | {' | '.join(cells)} |"


def _costs(found: Found) -> Iterator[str]:
    for one in found.measured:
        carried = one.name != DIRECT
        beside = f" + {one.beside_mib:.0f} beside" if one.beside_mib else ""
        cells = (
            f"{one.calls[MIDDLE].cpu_ms:.2f}" if carried else "",
            f"{one.memory_mib[0]:.0f}, {one.memory_mib[1]:.0f}{beside}" if carried else "",
            f"{max(0.0, one.session_kib):.1f}" if one.session_kib is not None else "",
            f"{one.death.failed} of {one.death.calls:,}, {one.death.noticed_s:.1f} s" if one.death else "",
            f"{one.changed.failed} of {one.changed.calls:,}" if one.changed else "",
            f"{one.listed.times_ms[0]:.1f}" if one.listed else "",
        )
        yield f"| {one.name} | {one.era} | {' | '.join(cells)} |"


def _lost(found: Found) -> Iterator[str]:
    """Where another gateway has a better figure than ours, as plainly as the other way round."""
    for era in _eras(found):
        ours = found.of(OURS, era)
        for other in found.measured:
            if not ours or other.era != era or other.name in (OURS, DIRECT):
                continue
            said = list(_better(other, ours))
            if said:
                yield f"{era}, {other.name}: {'; '.join(said)}"


def _better(other: Measured, ours: Measured) -> Iterator[str]:
    for clients, mine in ours.calls.items():
        theirs = other.calls[clients]
        if theirs.rate > mine.rate:
            yield f"{theirs.rate:,.0f} calls/s against {mine.rate:,.0f} with {many(clients)}"
    if other.calls[MIDDLE].cpu_ms < ours.calls[MIDDLE].cpu_ms:
        yield f"{other.calls[MIDDLE].cpu_ms:.2f} ms of processor a call against {ours.calls[MIDDLE].cpu_ms:.2f}"
    if other.memory_mib[1] < ours.memory_mib[1]:
        yield f"{other.memory_mib[1]:.0f} MiB against {ours.memory_mib[1]:.0f}"
    if other.listed and ours.listed and other.listed.rate > ours.listed.rate:
        yield f"{other.listed.rate:,.0f} lists of 1,000 tools a second against {ours.listed.rate:,.0f}"


def _eras(found: Found) -> list[str]:
    return list(dict.fromkeys(one.era for one in found.measured))


BAR, GAP, LEFT, WIDE = 16, 8, 260, 760


def plot(found: Found) -> str:
    """A picture of calls per second with eight clients, one bar for each gateway and era, as SVG."""
    most = max(one.calls[MIDDLE].rate for one in found.measured)
    drawn = []
    for at, one in enumerate(found.measured):
        rate = one.calls[MIDDLE].rate
        top = 40 + at * (BAR + GAP)
        width = max(1.0, (WIDE - LEFT - 90) * rate / most)
        colour = "#0b6e4f" if one.name == OURS else "#8a94a0"
        drawn += [
            f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{one.name}, {one.era}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{width:.0f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{LEFT + width + 6:.0f}" y="{top + 12}">{rate:,.0f}</text>',
        ]
    high = 50 + len(found.measured) * (BAR + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDE}" height="{high}" fill="white"/>\n'
        f'<text x="8" y="22" font-size="14">Calls per second with {MIDDLE} clients, {found.date}</text>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )
