"""The pages of docs/reference, made from the code they are about; written by ``make reference``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.reference import alerts, api, cli, events, metrics, settings

__all__ = ["PAGES"]

PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings.page,
    "cli": cli.page,
    "api": api.page,
    "metrics": metrics.page,
    "alerts": alerts.page,
    "events": events.page,
}
"""What makes each page, by its name."""
