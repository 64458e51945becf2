"""What `tekup rollout status` prints, whole, in 80 columns."""

from __future__ import annotations

from control_plane import steer
from control_plane.api.rollout_bodies import RolloutShown
from control_plane.cli.rollout_screen import MOST_TOOLS, screen
from control_plane.course import turn
from control_plane.rollout import Rollout
from tests.support.course import begun, by, look, until, well


def printed(rollout: Rollout, now_s: float) -> str:
    return screen(RolloutShown.of(rollout, now_s).model_dump(mode="json"))


BAKING = """\
search 1.0.0 -> 1.1.0  #1, canary
Progressing: baking, for 0:55 at most
  1.1.0 gets 10 %: nothing failed in 250 calls to 1.1.0
Traffic: 1.1.0 gets 10 %
Started by ada: try it

Steps
  ● 1. 10 %
  · 2. 50 %

Checks
  … 5xx answers 0 of 250 on 1.1.0 against 0 of 250 on 1.0.0: about 711 more
    calls to 1.1.0 are needed to tell whether it is 1 point worse"""
OF_TOOLS = "\n  … checks of single tools: 1 pass, 1 without calls enough\n\nLast events\n"


def test_a_rollout_at_its_first_step() -> None:
    rollout, now_s = until(begun(), "baking", 0)
    while "250" not in rollout.said:
        now_s += 1
        rollout = turn(rollout, well(rollout, look=look(rollout, int(now_s * 50))), now_s)
    shown = printed(rollout, now_s)
    assert shown.startswith(BAKING)
    assert OF_TOOLS in shown
    assert "errors of search_grep" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "Last events\n    0:00  ada starts search 1.0.0 -> 1.1.0: try it\n" in shown


def test_of_single_tools_what_fails_is_named() -> None:
    rollout, now_s = until(begun(), "baking", 0)
    back, now_s = until(rollout, "rolling_back", now_s, bad={"tool_errors:search_grep": 0.9})
    shown = printed(back, now_s)
    assert "  ✖ errors of search_grep " in shown
    assert "checks of single tools: " in shown


def test_a_step_for_some_tools_names_those_with_the_most_calls() -> None:
    tools = tuple(f"search_{number}" for number in range(9))
    rollout, now_s = until(begun(steps=({"weight_pct": 5, "tools": ["search_*"]},)), "baking", 0, tools=tools)
    rollout = turn(rollout, well(rollout, look=look(rollout, 50)), now_s + 6)
    shown = printed(turn(rollout, well(rollout, look=look(rollout, 90)), now_s + 12), now_s)
    assert shown.count("… errors of search_") == MOST_TOOLS
    assert "… checks of single tools: 0 pass, 12 without calls enough" in shown


BACK = """\
search 1.0.0 -> 1.1.0  #1, canary
Degraded: rolled back
  back to 1.0.0: aborted by ada: her reasons; 1.0.0 gets everything on every
  gate, 1.1.0 is closed
Traffic: 1.0.0 gets everything
Started by ada: try it

Steps
  ✔ 1. 10 %
  · 2. 50 %
"""


def test_a_rollout_that_was_aborted() -> None:
    baking, now_s = until(begun(), "baking", 0)
    ended, now_s = until(steer.abort(baking, by(now_s), drain=False), "rolled_back", now_s)
    assert printed(ended, now_s).startswith(BACK)
