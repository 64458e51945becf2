"""The decision how many instances there should be, over synthetic and recorded-like load."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.autoscale import Autoscale, Counters, Look, Scaled, bounds_of, decide, look
from control_plane.errors import Refused

pytestmark = pytest.mark.feature("C11")
EACH = 4.0
TURN_S = 2.0
START_S = 4.0


@dataclass
class Simulated:
    """A service whose instances take `START_S` to serve, and the decisions made of it every `TURN_S`.

    Attributes:
        policy: What is allowed.
        load: Calls under way at a moment, whatever serves them.
    """

    policy: Autoscale
    load: Callable[[float], float]
    serving: list[float] = field(default_factory=lambda: [0.0])
    decided: Scaled | None = None
    told: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds, wanted, live."""
    looks: list[Look] = field(default_factory=list)

    def run(self, seconds: float) -> Simulated:
        at_s = 0.0
        while at_s < seconds:
            live = sum(from_s <= at_s for from_s in self.serving)
            self.looks.append(Look(at_s, live, live, in_flight=self.load(at_s)))
            bounds = bounds_of(self.policy, stable=True)
            self.decided = decide(self.policy, bounds, self.looks, self.decided, "1.0.0")
            self._act(self.decided.wanted, at_s)
            self.told.append((at_s, self.decided.wanted, live))
            at_s += TURN_S
        return self

    def _act(self, wanted: int, at_s: float) -> None:
        while len(self.serving) < wanted:
            self.serving.append(at_s + START_S)
        del self.serving[wanted:]

    @property
    def changes(self) -> list[int]:
        """Every number that was wanted, without those that stayed."""
        wanted = [number for _, number, _ in self.told]
        return [number for before, number in zip([0, *wanted], wanted, strict=False) if number != before]

    def first(self, wanted: int) -> float:
        """When so many were first wanted."""
        return next(at_s for at_s, number, _ in self.told if number == wanted)


def ideal(load: float) -> int:
    return max(1, math.ceil(load / EACH))


def policy(**fields: object) -> Autoscale:
    return Autoscale.model_validate({"service": "search", "max": 10, "in_flight": EACH, **fields})


def test_a_step_is_followed_within_seconds_and_without_overshoot() -> None:
    seen = Simulated(policy(), lambda at_s: 1 if at_s < 60 else 15).run(120)
    assert seen.changes == [1, 2, 4]
    assert seen.first(2) <= 60 + 6
    assert seen.first(4) <= 60 + 20


def test_what_a_spike_asked_for_goes_after_one_cool_down_and_in_one_step() -> None:
    seen = Simulated(policy(down_cooldown_s=60), lambda at_s: 30 if 60 <= at_s < 90 else 1).run(300)
    assert seen.changes[0] == seen.changes[-1] == 1
    assert max(seen.changes) <= ideal(30)
    assert seen.changes == [*sorted(seen.changes[:-1]), 1]
    assert 90 + 60 - TURN_S <= max(at_s for at_s, wanted, _ in seen.told if wanted > 1) <= 90 + 60 + 10


def test_a_blip_shorter_than_what_is_looked_at_changes_nothing() -> None:
    assert Simulated(policy(), lambda at_s: 12 if at_s == 60 else 1).run(120).changes == [1]


def test_a_ramp_is_followed_step_by_step_and_never_by_more_than_one_too_many() -> None:
    seen = Simulated(policy(), lambda at_s: at_s / 15).run(600)
    assert seen.changes == list(range(1, seen.changes[-1] + 1))
    assert all(wanted <= ideal(at_s / 15) + 1 for at_s, wanted, _ in seen.told)
    assert seen.changes[-1] >= ideal(40) - 1


def test_over_a_day_in_an_hour_there_is_one_way_up_and_one_way_down_each() -> None:
    def day(at_s: float) -> float:
        return 16 - 14 * math.cos(2 * math.pi * at_s / 3600)

    seen = Simulated(policy(down_cooldown_s=120), day).run(2 * 3600)
    ups = [after > before for before, after in zip(seen.changes, seen.changes[1:], strict=False)]
    turns = sum(one != other for one, other in itertools.pairwise(ups))
    assert turns == 3, seen.changes
    short = [at_s for at_s, _, live in seen.told if day(at_s) > EACH * 1.35 * live]
    assert not short
    assert sum(live for _, _, live in seen.told) <= 1.35 * sum(ideal(day(at_s)) for at_s, _, _ in seen.told)


@pytest.mark.parametrize("seed", range(3))
def test_noise_around_any_load_makes_nobody_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    mean = chance.uniform(2, 30)
    seen = Simulated(policy(), lambda _: max(0.0, chance.gauss(mean, math.sqrt(mean)))).run(3600)
    settled = [wanted for at_s, wanted, _ in seen.told if at_s > 300]
    comings = sum(after > before for before, after in itertools.pairwise(settled))
    assert comings <= 3600 / (2 * seen.policy.down_cooldown_s), seen.changes
    assert max(settled) <= ideal(mean) + 3


@st.composite
def loads(draw: st.DrawFn) -> Callable[[float], float]:
    pieces = draw(st.lists(st.floats(0, 100), min_size=1, max_size=12))
    return lambda at_s: pieces[int(at_s // 50) % len(pieces)]


@settings(max_examples=25, deadline=None)
@given(loads(), st.integers(1, 4), st.integers(4, 12), st.sampled_from([20.0, 60.0, 120.0]))
def test_whatever_comes_bounds_and_cool_downs_hold(
    load: Callable[[float], float], fewest: int, most: int, down_s: float
) -> None:
    seen = Simulated(policy(min=fewest, max=most, down_cooldown_s=down_s), load).run(600)
    assert all(fewest <= wanted <= most for _, wanted, _ in seen.told)
    moves = [
        (at_s, before, after)
        for (at_s, after, _), (_, before, _) in zip(seen.told[1:], seen.told, strict=False)
        if after != before
    ]
    for (then_s, _, _), (now_s, before, after) in itertools.pairwise(moves):
        assert now_s - then_s >= (down_s if after < before else seen.policy.up_cooldown_s)
        assert after <= 2 * before


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 100))
def test_a_load_that_stays_is_answered_once_and_for_all(load: float) -> None:
    seen = Simulated(policy(max=50), lambda _: load).run(900)
    assert seen.changes == sorted(seen.changes)
    settled = seen.changes[-1]
    assert settled - 1 <= ideal(load) <= settled + 2


def looks(*, told: bool = True, live: int = 3, in_flight: float = 0.0, seconds: int = 200) -> list[Look]:
    return [Look(at_s, live, live if told else live - 1, in_flight) for at_s in range(0, seconds, 2)]


def before(wanted: int, changed: float = -1000.0) -> Scaled:
    return Scaled(version="1.0.0", wanted=wanted, needed=wanted, live=wanted, changed=changed, why="")


def said(past: list[Look], was: Scaled | None, **fields: object) -> Scaled:
    wanted = policy(**fields)
    return decide(wanted, bounds_of(wanted, stable=True), past, was, "1.0.0")


def test_nobody_is_stopped_while_not_every_instance_tells_what_it_did() -> None:
    assert said(looks(), before(3)).wanted == 1
    held = said(looks(told=False), before(3))
    assert held.wanted == 3
    assert "not every instance told" in held.why


def test_an_instance_that_is_late_to_tell_now_and_then_keeps_nobody_alive() -> None:
    late = [Look(at_s, 3, 2 if at_s % 20 == 0 else 3) for at_s in range(0, 200, 2)]
    assert said(late, before(3)).wanted == 1


@pytest.mark.parametrize("every_s", [1.0, 2.3, 3.7])
def test_a_cool_down_is_covered_however_far_looks_are_apart(every_s: float) -> None:
    past = [Look(number * every_s, 3, 3) for number in range(20)]
    assert said(past, before(3), down_cooldown_s=6).wanted == 1


def test_where_nobody_tells_anything_the_last_decision_stands() -> None:
    silent = [Look(at_s, 3, 0) for at_s in range(0, 200, 2)]
    assert said(silent, before(3)).wanted == 3


def test_a_new_leader_watches_for_a_cool_down_before_it_stops_anybody() -> None:
    held = said(looks(seconds=40), before(3))
    assert held.wanted == 3
    assert "nobody is stopped for another" in held.why


def test_more_are_not_asked_for_while_those_that_were_do_not_serve_but_for_ever_nobody_waits() -> None:
    busy = [Look(at_s, 1, 1, 20.0) for at_s in range(0, 40, 2)]
    waits = said(busy, before(2, changed=20))
    assert waits.wanted == 2
    assert "1 that were asked for do not serve yet" in waits.why
    assert said(busy, before(2, changed=-100)).wanted == 4


def test_at_the_most_it_says_what_would_be_needed() -> None:
    full = said(looks(live=4, in_flight=40), before(4), max=4)
    assert (full.wanted, full.needed) == (4, 10)
    assert "4 is the most it may have" in full.why


def test_bounds_that_were_moved_count_at_once() -> None:
    assert said(looks(seconds=4), before(3), min=5).wanted == 5
    assert said(looks(seconds=4, in_flight=100), before(8), max=2).wanted == 2


def test_the_busiest_sign_decides_and_a_queue_asks_for_one_more_at_a_time() -> None:
    by_cpu = [Look(at_s, 2, 2, in_flight=1, cpus=3.0) for at_s in range(0, 20, 2)]
    assert said(by_cpu, before(2), cpus=0.7).wanted == 4
    waits = [Look(at_s, 2, 2, queue_ms=80) for at_s in range(0, 20, 2)]
    asked = said(waits, before(2), in_flight=None, queue_ms=50)
    assert asked.wanted == 3
    assert "calls wait 80 ms" in asked.why


def test_while_a_rollout_runs_nobody_is_stopped_and_who_gets_everything_at_once_is_made_ready() -> None:
    wanted = policy(min=2)
    assert bounds_of(wanted, stable=True, holds=True, wanted=5).fewest == 5
    assert bounds_of(wanted, stable=False, at_least=4).fewest == 4
    assert bounds_of(wanted, stable=False).fewest == 1


def test_a_look_takes_each_instance_by_its_own_clock_and_leaves_out_one_that_was_replaced() -> None:
    def pair(from_s: float, to_s: float, busy: float, cpu: float) -> tuple[Counters, Counters]:
        return Counters(from_s, 100, 50, 1, 100), Counters(to_s, 100 + busy, 50 + cpu, 1.2, 120)

    seen = look(7.0, 3, [pair(10, 12, 8, 1), pair(50, 54, 4, 2), pair(90, 3, 9, 9)])
    assert (seen.live, seen.told) == (3, 2)
    assert seen.in_flight == pytest.approx(5)
    assert seen.cpus == pytest.approx(1.0)
    assert seen.queue_ms == pytest.approx(10)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"min": 5, "max": 4}, "min 5 is above max 4"),
        ({"in_flight": None}, "one of them has to say"),
        ({"max": 51}, "less than or equal to 50"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object], why: str) -> None:
    raw = Autoscale(service="search").model_dump() | fields
    with pytest.raises(Refused, match=why):
        Autoscale.parse(json.dumps(raw), "autoscaling")
