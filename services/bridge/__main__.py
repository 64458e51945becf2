"""`python -m services.bridge`: one instance of the service that the declaration at `MCP_BRIDGE_FILE` describes."""

import os
import sys
from pathlib import Path

from services.bridge.declaration import BadDeclaration, read_declaration
from services.bridge.service import spec_of
from services.common import run


def main() -> None:
    """Serve; a declaration that allows no start is told in one message, and ends with 78 as bad settings do."""
    file = os.environ.get("MCP_BRIDGE_FILE", "")
    try:
        if not file:
            raise BadDeclaration("MCP_BRIDGE_FILE is not set: it names the declaration of the server to bridge")
        declaration = read_declaration(Path(file))
    except BadDeclaration as error:
        sys.stderr.write(f"the bridge was not started: {error}\n")
        sys.exit(os.EX_CONFIG)
    if declaration.version:
        os.environ.setdefault("MCP_VERSION", declaration.version)
    run(spec_of(declaration))


main()
