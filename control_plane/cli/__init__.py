"""``tekup``: the command line. What runs here is in ``compose.local``; what operators decide goes over the HTTP API."""

from control_plane.cli.main import main

__all__ = ["main"]
