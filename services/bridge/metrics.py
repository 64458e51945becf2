"""What a bridge counts beside the kit's metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.bridge.child import Usage

__all__ = ["BridgeMetrics"]


class BridgeMetrics:
    """Metrics of one bridge.

    Args:
        registry: Where they are declared.
        children: Tells how many connections there are now.
        usage: Tells what all children use.
        quarantined: Tells how many items nobody is shown.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        children: Callable[[], int],
        usage: Callable[[], Usage],
        quarantined: Callable[[], int],
    ) -> None:
        self.starts = Counter("tekup_bridge_starts", "Children started, or connections made", registry=registry)
        self.ends = Counter(
            "tekup_bridge_ends",
            "Children or connections that ended: idle when nobody needed them, failed by themselves",
            ["reason"],
            registry=registry,
        )
        self.retried = Counter(
            "tekup_bridge_retried",
            "Requests sent again, their session having expired before they ran",
            registry=registry,
        )
        for reason in ("idle", "failed"):
            self.ends.labels(reason)
        Gauge("tekup_bridge_children", "Children running, or connections held", registry=registry).set_function(
            children
        )
        Gauge(
            "tekup_bridge_child_processes", "Processes of all children and what they started", registry=registry
        ).set_function(lambda: usage().processes)
        Gauge(
            "tekup_bridge_child_memory_bytes",
            "Memory of all children and what they started, in bytes",
            registry=registry,
        ).set_function(lambda: usage().memory_bytes)
        Gauge(
            "tekup_bridge_quarantined",
            "Tools, prompts and resources of the bridged server that nobody is shown",
            registry=registry,
        ).set_function(quarantined)
