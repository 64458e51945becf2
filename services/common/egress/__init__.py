"""The way out of every page: proxies that look at addresses before anything is connected.

`proxy` stands on loopback beside Chromium, one for each page. What is connected to is decided by a `Way`: `Direct`
resolves, checks and connects itself; `Through` asks the egress process (`python -m services.common.egress`) to do
that, with a pass that says for whom. Nothing here needs a browser.
"""

from services.common.egress.proxy import Egress
from services.common.egress.ways import Direct, Refused, Resolver, Through, Way, resolve

__all__ = ["Direct", "Egress", "Refused", "Resolver", "Through", "Way", "resolve"]
