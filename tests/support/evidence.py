"""What all parts have written down of calls, in metrics, in log lines and in spans, since they began."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.otlp import Collector, Taken
from tests.support.tallies import Tallies

ANY = "~"
Line = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What there was at one moment.

    Args:
        counted: Metrics.
        edge: Access lines of POST.
        calls: Lines `call` of instances and hub.
        spans: All spans.
    """

    counted: Tallies
    edge: list[Line]
    calls: list[Line]
    spans: list[Taken]

    @classmethod
    def of(cls, counted: Tallies, edge: Path, logs: Iterable[Path], collector: Collector) -> Evidence:
        """What there is now.

        Args:
            counted: Read just before.
            edge: Traefik's output.
            logs: Those of instances and hub.
            collector: Where spans come to.
        """
        access = [line for line in _lines(edge) if line.get("RequestMethod") == "POST"]
        calls = [line for log in logs for line in _lines(log) if line.get("event") == "call"]
        return cls(counted, access, calls, list(collector.spans))

    def accesses(self, entry: str, client: str = ANY, **fields: object) -> Counter[str]:
        """Traces of access lines: of an entrypoint, a client and further fields."""
        wanted = {"entryPointName": entry, "request_X-Tekup-Client": client, **fields}
        return Counter(line["TraceId"] for line in self.edge if _fits(line, wanted))

    def called(self, service: str, client: str, **fields: object) -> Counter[str]:
        """Traces of lines `call`; not of copies, unless `mirrored` is given."""
        wanted = {"mirrored": None, "service": service, "client": client, **fields}
        return Counter(line["trace_id"] for line in self.calls if _fits(line, wanted))

    def spanned(self, label: str, **about: object) -> Counter[str]:
        """Traces of spans with these attributes; not of copies, unless `tekup.mirrored` is given."""
        wanted = {"tekup.mirrored": None, **about}
        return Counter(one.trace for one in self.spans if one.label == label and _fits(one.about, wanted))


def _fits(found: dict[str, Any], wanted: dict[str, object]) -> bool:
    return all(value in (ANY, found.get(name)) for name, value in wanted.items())


def _lines(log: Path) -> list[Line]:
    whole = [line for line in log.read_text().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
    return [json.loads(line) for line in whole]
