"""The images there are, and what each may weigh."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["IMAGES", "KIT", "Image"]

KIT: Final = "kit"
"""The packages that every image with Python in it has."""


@dataclass(frozen=True)
class Image:
    """One image.

    Args:
        name: its target in the Dockerfile, its extra in pyproject.toml and its lock's name.
        most_mb: what it may add to its base, in 10^6 bytes.
        kit: whether it holds the kit.
        programs: of others that are put into it, of `compose.local.programs`.
    """

    name: str
    most_mb: int
    kit: bool = True
    programs: tuple[str, ...] = ()

    @property
    def repository(self) -> str:
        """The image's name without its tag."""
        return f"tekup/mcp-{self.name}"


_TABLE = (
    Image("gateway", 200, kit=False),
    Image("browser", 760),
    Image("filesystem", 175),
    Image("search", 240),
    Image("hub", 170),
    # Of it 110 are promtool's, amtool's and Git's: nothing else checks rules and receivers as they will be read.
    Image("control-plane", 270, programs=("promtool", "amtool")),
    Image("bridge", 350),
)
IMAGES: Final[Mapping[str, Image]] = {image.name: image for image in _TABLE}
