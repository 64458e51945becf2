"""Jinja as the pages use it: everything is escaped, nothing may be undefined."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import jinja2

from control_plane.alertmanager import matcher_said
from control_plane.console import actions, plot, views
from control_plane.console.visit import at

HERE = Path(__file__).parent
STATIC = ("console.css", "console.js", "icon.svg")


def environment(now: Callable[[], float]) -> jinja2.Environment:
    """The templates.

    Args:
        now: Seconds since the epoch, for "so long ago".
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "words": views.words,
        "pct": views.pct,
        "shown": views.shown,
        "clock": _clock,
        "lasted": views.lasted,
    }
    made.filters |= {"iso": _iso, "check": views.check_said, "matcher": matcher_said}
    made.filters["ago"] = lambda at_s: f"{views.lasted(now() - at_s)} ago"
    made.globals |= {"at": at, "asset": _assets(), "plot": plot, "verbs": actions.verbs, "level_words": views.WORDS}
    made.globals["serves"] = views.serves
    return made


def _assets() -> Callable[[str], str]:
    """Addresses that change with what lies there, so that browsers may keep it for good."""
    sums = {name: hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12] for name in STATIC}
    return lambda name: f"{at('static', name)}?v={sums[name]}"


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def _clock(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s))
