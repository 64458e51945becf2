"""Where the parts of an environment lie that a backup is of: a folder of the local one, volumes of containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compose.local.layout import Layout

from .manifest import SETTINGS, STATE

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Site:
    """Where everything is.

    Attributes:
        layout: The environment's folder.
        workspace: What filesystem and search work in.
        more: Files that lie elsewhere, by their name in a backup.
        ca: Whom to trust when Consul is asked; None where it speaks plain HTTP.
    """

    layout: Layout
    workspace: Path
    more: Mapping[str, Path] = field(default_factory=dict)
    ca: Path | None = None

    @classmethod
    def local(cls, layout: Layout) -> Site:
        """A local environment."""
        return cls(layout, layout.workspace)

    def target(self, name: str) -> Path:
        """Where a part of a backup belongs."""
        if name == SETTINGS:
            return self.layout.settings
        inside = name.removeprefix(STATE)
        if inside in self.more:
            return self.more[inside]
        if inside == WORKSPACE or inside.startswith(f"{WORKSPACE}/"):
            return self.workspace / inside.removeprefix(WORKSPACE).lstrip("/")
        return self.layout.state / inside
