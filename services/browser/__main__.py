"""`python -m services.browser`: one instance."""

from services.browser.service import SPEC
from services.common import run

if __name__ == "__main__":
    run(SPEC)
