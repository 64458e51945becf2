"""What the hub counts beside what every instance does."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from mcp import MCPError
from mcp_types import INTERNAL_ERROR
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.calls import Record
from services.common.metrics import Outcome

__all__ = ["UNKNOWN_SERVICE", "HubMetrics"]

UNKNOWN_SERVICE: Final = "(unknown)"
"""Stands for every name that is of no service, so that a caller cannot make label values."""

_FAULTS: Final = frozenset({502, 503, 504, INTERNAL_ERROR})  # ours; every other protocol error is the caller's


class HubMetrics:
    """Counts of one hub.

    Args:
        registry: Where they are shown.
        quarantined: Names the service of each item of a list that is put aside.
        listening: Tells how many streams are open.
    """

    def __init__(
        self, registry: CollectorRegistry, *, quarantined: Callable[[], Iterable[str]], listening: Callable[[], int]
    ) -> None:
        self._calls = Counter(
            "tekup_hub_calls",
            "Requests that the hub took to a service for a client, by the era the client speaks and how they ended",
            ["era", "service", "outcome"],
            registry=registry,
        )
        streams = Gauge("tekup_hub_listening", "Open subscriptions/listen streams", registry=registry)
        streams.set_function(listening)
        registry.register(_Quarantined(quarantined))

    @contextmanager
    def counted(self, *, legacy: bool, service: str, record: Record) -> Iterator[None]:
        """Surrounds a request to a service: says how it ended if it failed, and counts it.

        Args:
            legacy: The client speaks an older revision.
            service: To whom it goes; `UNKNOWN_SERVICE` for nobody.
            record: Told how it ended.
        """
        try:
            yield
        except MCPError as error:
            record.outcome = Outcome.ERROR if error.error.code in _FAULTS else Outcome.TOOL_ERROR
            raise
        except anyio.get_cancelled_exc_class():
            record.outcome = Outcome.CANCELLED
            raise
        finally:
            self._calls.labels("legacy" if legacy else "modern", service, record.outcome.value).inc()


class _Quarantined(Collector):
    """How much of each service's lists is put aside."""

    def __init__(self, services: Callable[[], Iterable[str]]) -> None:
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        help_text = "Items of a service's lists that nobody is shown, whole unreadable lists among them"
        family = GaugeMetricFamily("tekup_hub_quarantined", help_text, labels=["service"])
        for service, count in Tally(self._services()).items():
            family.add_metric([service], count)
        yield family
