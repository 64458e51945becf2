"""Log lines from Loki, where the collector has put them (docs/contracts.md, "Log lines")."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx

from compose.local.errors import LocalError
from compose.local.exits import Exit
from control_plane.cli.observe.asking import asking
from control_plane.cli.observe.files import Found, Newest
from control_plane.cli.observe.lines import LEVELS, Line, Wanted, line_of

__all__ = ["Loki", "LokiFailed", "query_of"]

TIMEOUT_S = 20.0
MOST_AT_ONCE = 5000
"""Loki's own bound, unless it is set otherwise."""
AS_FAR_BACK_S = 7 * 86_400
LOOK_EVERY_S = 1.0
OVERLAP_S = 10.0
"""A line that follows is looked for so long after its own time: collector and Loki need theirs."""
NANO = 1_000_000_000
_BAD = {
    "debug": "",
    "info": "info|warning|error|critical",
    "warning": "warning|error|critical",
    "error": "error|critical",
}


class LokiFailed(LocalError):
    """Loki does not answer, or not as it should."""

    exit_code = Exit.FAILED


def query_of(wanted: Wanted) -> str:
    """What is wanted, in LogQL: streams by process and level, then trace, client and tool by their metadata."""
    streams = ['service_name=~".+"']
    if wanted.process:
        streams.append(f"instance={_text(wanted.process)}")
    if _BAD.get(wanted.level):
        streams.append(f'level=~"{_BAD[wanted.level]}"')
    filters = [f"trace_id={_text(wanted.trace)}"] if wanted.trace else []
    if wanted.client:
        either = (f"client={_text(wanted.client)}", f"client=~{_text(_quoted(wanted.client) + '~.*')}")
        filters.append(f"({' or '.join(either)})")
    filters += [f"tool={_text(wanted.tool)}"] if wanted.tool else []
    return f"{{{', '.join(streams)}}}{''.join(f' | {one}' for one in filters)}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted(value: str) -> str:
    """As a regular expression that means itself."""
    return "".join(sign if sign.isalnum() or sign in "_-~" else f"\\{sign}" for sign in value)


class Loki:
    """A Loki.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def read(self, wanted: Wanted, most: int) -> Found:
        """The newest lines that fit, of the last seven days unless it is said since when.

        Raises:
            LokiFailed: It did not give them.
        """
        newest, end = Newest(most), int(time.time() + 60) * NANO
        start = int((wanted.since or time.time() - AS_FAR_BACK_S) * NANO)
        seen: set[tuple[int, str]] = set()
        missing = most + 1  # one more tells that there are more
        while missing > 0:
            limit = min(missing, MOST_AT_ONCE)
            page = self._page(wanted, start, end, limit)
            fresh = [line for at, line in page if (at, line.text) not in seen]
            for line in fresh:
                newest.put(line)
            if len(page) < limit or not fresh:
                break
            seen = {(at, line.text) for at, line in page}
            missing -= len(fresh)
            end = min(at for at, _ in page) + 1  # the end is not part of a range
        return Found(newest.lines(), newest.more, f"Loki at {self.url}")

    def follow(self, wanted: Wanted) -> Iterator[tuple[Line, ...]]:
        """Nothing first, then what arrives from then on; ends only when its caller does.

        Raises:
            LokiFailed: It did not give them.
        """
        began = int(time.time() * NANO)
        seen: dict[tuple[int, str], None] = {}
        yield ()
        while True:
            start = max(began, int((time.time() - OVERLAP_S) * NANO))
            page = self._page(wanted, start, int((time.time() + 60) * NANO), MOST_AT_ONCE)
            came = [(at, line) for at, line in page if (at, line.text) not in seen]
            seen = dict.fromkeys((at, line.text) for at, line in page)
            if came:
                yield tuple(line for _, line in sorted(came, key=lambda one: one[0]))
            time.sleep(LOOK_EVERY_S)

    def _page(self, wanted: Wanted, start: int, end: int, most: int) -> list[tuple[int, Line]]:
        asked: dict[str, str | int] = {"query": query_of(wanted), "start": start, "end": end, "limit": most,
                                       "direction": "backward"}  # fmt: skip
        with asking("Loki", self.url, LokiFailed):
            where = f"{self.url}/loki/api/v1/query_range"
            answer = httpx.get(where, params=asked, timeout=TIMEOUT_S, trust_env=False)
            if not answer.is_success:
                raise LokiFailed(f"Loki at {self.url} answered {answer.status_code}: {answer.text.strip()[:300]}")
            streams = answer.json()["data"]["result"]
            return [
                (int(at), _line(text, stream["stream"], int(at)))
                for stream in streams
                for at, text, *_ in stream["values"]
            ]


def _line(text: str, labels: dict[str, str], at: int) -> Line:
    line = line_of(text, labels.get("instance", labels.get("service_name", "")), at / NANO)
    level = labels.get("level", "")
    about = {name: labels[name] for name in ("trace_id", "client", "tool", "event") if labels.get(name)}
    said = {"level": level} if level in (*LEVELS, "critical") else {}
    return Line(at / NANO, line.process, text, {**said, **about, **line.fields})
