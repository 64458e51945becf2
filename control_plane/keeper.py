"""What whoever starts and stops containers says of itself, in Consul; without it nothing can be deployed from here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from control_plane.model import Document

KEEPER_KEY = "tekup/state/keeper"
SILENT_S = 60.0
"""After so long without a word it counts as gone."""


class KeeperReport(Document):
    """Its last word.

    Attributes:
        at: When, in seconds since the epoch.
        containers: Of each service, how many containers of each version there are, whatever they do.
        problems: Why a version of a service (`search 2.0.0`) has not the instances it should have.
        restarts: How often containers of each service were restarted because they lived and failed.
    """

    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    containers: dict[str, dict[str, int]] = Field(default_factory=dict)
    problems: dict[str, str] = Field(default_factory=dict)
    restarts: dict[str, int] = Field(default_factory=dict)
