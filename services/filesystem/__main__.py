"""`python -m services.filesystem`: one instance."""

from services.common import run
from services.filesystem.service import SPEC

if __name__ == "__main__":
    run(SPEC)
