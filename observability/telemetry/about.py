"""What a process of ours says of itself: the platform's version."""

import tomllib
from importlib import metadata
from pathlib import Path

__all__ = ["platform_version"]

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def platform_version() -> str:
    """The version of this package, of a checkout that was never installed that of its project file."""
    try:
        return metadata.version("tekup-mcp")
    except metadata.PackageNotFoundError:
        version: str = tomllib.loads(_PROJECT.read_text())["project"]["version"] if _PROJECT.is_file() else "0.0.0"
        return version
