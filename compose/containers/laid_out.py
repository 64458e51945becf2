"""Whether Consul knows everybody's token: the health check of whoever keeps its access (standard library only).

``python -m compose.containers.laid_out URL SECRETS``: the operator's token is introduced last.
"""

import signal
import ssl
import sys
import urllib.request
from pathlib import Path

ANSWER_S = 3.0
ENDS_S = 5  # as compose/images/healthy.py


def main() -> int:
    """0 if the token is known, else 1 with a word on standard error."""
    signal.alarm(ENDS_S)
    url, secrets = sys.argv[1], Path(sys.argv[2])
    try:
        token = (secrets / "consul" / "operator.token").read_text(encoding="ascii").strip()
        trust = ssl.create_default_context(cafile=secrets / "consul-tls" / "ca.pem")
        asked = urllib.request.Request(f"{url}/v1/acl/token/self", headers={"X-Consul-Token": token})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=ANSWER_S, context=trust):  # noqa: S310 (the URL is the environment's own)
            return 0
    except OSError as error:
        sys.stderr.write(f"not yet: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
