"""How large the images are, against how large they may be."""

import json
from dataclasses import dataclass

from compose.images.engine import docker
from compose.images.errors import ImageError
from compose.images.table import Image

__all__ = ["Size", "measure", "table"]


@dataclass(frozen=True)
class Size:
    """One image's size, in bytes.

    Args:
        image: which.
        total: all its layers.
        base: those of its base image.
    """

    image: Image
    total: int
    base: int

    @property
    def own_mb(self) -> float:
        """What it adds to its base, in 10^6 bytes: what is bounded, since the base is a choice."""
        return (self.total - self.base) / 1e6

    @property
    def too_large(self) -> bool:
        """Whether it is above its bound."""
        return self.own_mb > self.image.most_mb


def measure(image: Image, tag: str, base: str) -> Size:
    """Ask the engine for an image's size.

    Raises:
        ImageError: there is no such image.
    """
    return Size(image, _bytes(f"{image.repository}:{tag}"), _bytes(base))


def table(sizes: list[Size]) -> str:
    """A line an image: its size, what it adds to its base, and its bound."""
    lines = [f"{'image':26} {'MB':>8} {'over its base':>14} {'at most':>8}"]
    for size in sizes:
        mark = "  too large" if size.too_large else ""
        lines.append(
            f"{size.image.repository:26} {size.total / 1e6:8.1f} {size.own_mb:14.1f} {size.image.most_mb:8}{mark}"
        )
    return "\n".join(lines)


def _bytes(name: str) -> int:
    ended = docker("image", "inspect", name)
    if ended.returncode != 0:
        raise ImageError(f"there is no image {name}; build it with make images")
    found: int = json.loads(ended.stdout)[0]["Size"]
    return found
