"""The console: pages of HTML for operators, under ``/console`` of every replica (docs/console.md).

It decides nothing. Pages are made of what the HTTP API answers, and forms become calls of it, in this process and with
the operator's own token: rights, records, forwarding to the leader and refusals are those of the API.
"""

from control_plane.console.app import create_console

__all__ = ["create_console"]
