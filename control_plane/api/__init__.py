"""The HTTP API of the control plane: what operators, scripts and the CLI speak to. Loopback, operator token."""

from control_plane.api.app import create_app

__all__ = ["create_app"]
