"""`python -m services.bridge.judged FILE`: a declaration as the bridge understands it, as JSON, or what is wrong.

For who starts bridges and imports none of them.
"""

import sys
from pathlib import Path

from services.bridge.declaration import BadDeclaration, read_declaration


def main() -> None:
    """Print it; 1 and a sentence where it cannot be used."""
    try:
        print(read_declaration(Path(sys.argv[1])).model_dump_json())
    except BadDeclaration as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
