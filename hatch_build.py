"""What the wheel is given besides the packages: files that lie at the root of a checkout, and pinned dependencies.

The platform is a program, not a library: whoever installs it gets the versions it was tested with. They are in
wheel.lock, which `make lock` writes. An editable install, as `make setup` makes, gets neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = ("consul", "traefik", "docs/runbooks")
"""Where compose.local.files.carried looks for them."""


class Wheel(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook; it finds the one class in this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add to what hatchling is about to build.

        Args:
            version: of the wheel: `standard` or `editable`.
            build_data: what hatchling lets hooks add to.

        Raises:
            FileNotFoundError: a file that has to go in is not there.
        """
        if version != "standard":
            return
        root = Path(self.root)
        for file in (path for name in CARRIED for path in sorted((root / name).rglob("*")) if path.is_file()):
            if not file.name.endswith("_test.go"):
                build_data["force_include"][str(file)] = f"compose/carried/{file.relative_to(root)}"
        pins = (line.strip() for line in (root / "wheel.lock").read_text(encoding="utf-8").splitlines())
        build_data["dependencies"] += [pin for pin in pins if pin and not pin.startswith("#")]
