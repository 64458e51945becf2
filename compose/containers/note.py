"""``python -m compose.containers.note WHAT REASON`` in a control plane's container: writes it into the history."""

import sys

from compose.local.errors import LocalError
from compose.local.operators_api import OperatorsApi
from compose.local.progress import Silent

from .places import GIVEN, HOSTS

ANSWER_S = 10.0


def main() -> int:
    """0 if it stands there, else 1 with a word on standard error."""
    what, reason = sys.argv[1:]
    token = (GIVEN / "operator.token").read_text(encoding="ascii").strip()
    port = HOSTS["MCP_CONTROL_PLANE_PORT"][1]
    try:
        OperatorsApi(f"http://127.0.0.1:{port}", token, Silent(), ANSWER_S).note(what, reason)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
