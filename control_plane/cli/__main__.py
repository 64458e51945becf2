"""``python -m control_plane.cli`` is ``tekup``."""

from control_plane.cli.main import main

main()
