"""`python -m services.search`: one instance."""

from services.common import run
from services.search.service import SPEC

if __name__ == "__main__":
    run(SPEC)
