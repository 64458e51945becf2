"""``python -m compose.containers.ask METHOD PATH`` in a control plane's container: asks it what its own machine asks.

The body is read from standard input, the answer is one object of JSON. So whoever may start programs in containers
needs no port of the control plane and no certificate, and `Inside` is httpx's way to say it.
"""

import base64
import json
import sys

import httpx

from compose.local.errors import StepFailed

from .command import Compose
from .places import GIVEN, HOSTS

ANSWER_S = 30.0
CONTROL_PLANE = "control-plane"
HEADERS = ("content-type", "idempotency-key")
TOLD = ("content-type", "retry-after")
"""What is handed on of a request's and of an answer's."""


class Inside(httpx.BaseTransport):
    """Asks a control plane from inside of its container.

    Args:
        compose: The environment.
    """

    def __init__(self, compose: Compose) -> None:
        self._compose = compose

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.

        Raises:
            httpx.ConnectError: Its container does not run, or it does not answer there.
        """
        said = {name: request.headers[name] for name in HEADERS if name in request.headers}
        given = {"headers": said, "body": base64.b64encode(request.read()).decode()}
        path = request.url.raw_path.decode("ascii")
        command = ("exec", "-T", CONTROL_PLANE, "/opt/tekup/bin/python", "-m", __name__, request.method, path)
        try:
            answer = json.loads(self._compose.read(*command, given=json.dumps(given).encode()))
        except (StepFailed, ValueError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return httpx.Response(answer["status"], headers=answer["headers"], text=answer["body"], request=request)


def main() -> int:
    """0 if it answered, whatever; else 1 with a word on standard error."""
    method, path = sys.argv[1:]
    given = json.load(sys.stdin)
    token = (GIVEN / "operator.token").read_text(encoding="ascii").strip()
    url = f"http://127.0.0.1:{HOSTS['MCP_CONTROL_PLANE_PORT'][1]}{path}"
    headers = {**given["headers"], "Authorization": f"Bearer {token}"}
    try:
        answer = httpx.request(
            method, url, content=base64.b64decode(given["body"]), headers=headers, timeout=ANSWER_S, trust_env=False
        )
    except httpx.HTTPError as error:
        sys.stderr.write(f"the control plane does not answer: {str(error) or type(error).__name__}\n")
        return 1
    told = {name: answer.headers[name] for name in TOLD if name in answer.headers}
    print(json.dumps({"status": answer.status_code, "headers": told, "body": answer.text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
