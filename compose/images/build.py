"""Builds images with the engine's BuildKit: all through one cache, each with its version, revision and date.

The date is SOURCE_DATE_EPOCH's or the last commit's, so that building a commit again says the same.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from compose.images.engine import docker
from compose.images.errors import ImageError
from compose.images.programs import place_programs
from compose.images.table import Image
from compose.local.files import repository
from observability.telemetry.about import platform_version

__all__ = ["BASE_IMAGE", "About", "build"]

BASE_IMAGE: Final = "debian:bookworm-slim"
DOCKERFILE: Final = Path("compose/images/Dockerfile")
_VERSION: Final = re.compile(r"[0-9A-Za-z.]{1,32}")  # docs/contracts.md, "Names"; a tag takes all of it
_BUILD_S: Final = 3600.0
_GIT_S: Final = 20.0


@dataclass(frozen=True)
class About:
    """What an image says of itself.

    Args:
        version: of the platform; its tag.
        revision: the commit it was built from, "unknown" outside a checkout; ends with "-changed" where the checkout
            holds more than that.
        epoch_s: its date, in seconds since 1970.
    """

    version: str
    revision: str
    epoch_s: int

    @classmethod
    def of_checkout(cls, version: str = "") -> "About":
        """What images built now should say.

        Args:
            version: another than the package's.

        Raises:
            ImageError: the version or SOURCE_DATE_EPOCH is not in its form.
        """
        version = version or platform_version()
        if not _VERSION.fullmatch(version):
            raise ImageError(f"--version {version!r} must be 1-32 letters, digits and dots")
        revision, committed = _git("rev-parse", "HEAD"), _git("log", "-1", "--format=%ct")
        told = os.environ.get("SOURCE_DATE_EPOCH", "") or committed or "0"
        if not told.isdecimal():
            raise ImageError(f"SOURCE_DATE_EPOCH is {told!r}; give it as whole seconds since 1970")
        changed = "-changed" if revision and _git("status", "--porcelain", "--untracked-files=no") else ""
        return cls(version, (revision or "unknown") + changed, int(told))

    @property
    def tags(self) -> tuple[str, ...]:
        """Its version; `latest` moves with the package's own alone, not with one that was asked for to try it."""
        return (self.version, "latest") if self.version == platform_version() else (self.version,)

    @property
    def created(self) -> str:
        """The date, in RFC 3339."""
        return datetime.fromtimestamp(self.epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build(
    images: Sequence[Image], about: About, *, base: str = BASE_IMAGE, ca: Path | None = None, cached: bool = True
) -> None:
    """Build images side by side, and tag them.

    What BuildKit says goes to standard error.

    Args:
        images: which.
        about: what they say of themselves.
        base: the image they stand on.
        ca: a bundle of authorities to trust the index of packages by.
        cached: whether layers built before may be taken.

    Raises:
        ImageError: the build failed.
    """
    place_programs([name for image in images for name in image.programs])
    env = {"SOURCE_DATE_EPOCH": str(about.epoch_s), "DOCKER_BUILDKIT": "1"}
    ended = docker(
        *("buildx", "bake", "--load", "--file", "-"),
        timeout_s=_BUILD_S,
        cwd=repository(),
        env=env,
        read=json.dumps(_definition(images, about, base, ca, cached)),
        show=True,
    )
    if ended.returncode != 0:
        names = ", ".join(image.repository for image in images)
        raise ImageError(f"{names} could not be built; what the builder said stands above")


def _definition(
    images: Sequence[Image], about: About, base: str, ca: Path | None, cached: bool
) -> dict[str, dict[str, object]]:
    """What `docker buildx bake` is told."""
    shared: dict[str, object] = {
        "context": ".",
        "dockerfile": str(DOCKERFILE),
        "args": {
            "BASE_IMAGE": base,
            "VERSION": about.version,
            "REVISION": about.revision,
            "CREATED": about.created,
            "SOURCE_DATE_EPOCH": str(about.epoch_s),
        },
        "secret": [f"id=ca,src={ca}"] if ca else [],
        "no-cache": not cached,
    }
    targets: dict[str, object] = {
        image.name: {
            **shared,
            "target": image.name,
            "tags": [f"{image.repository}:{tag}" for tag in about.tags],
        }
        for image in images
    }
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _git(*arguments: str) -> str:
    """What git says, or nothing where this is no checkout."""
    try:
        ended = subprocess.run(
            ["git", *arguments], cwd=repository(), capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
