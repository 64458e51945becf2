"""`python -m services.hub`."""

from services.common import run
from services.hub.service import SPEC

run(SPEC)
