#!/usr/bin/python3 -IS
"""Ends with 0 where this container's program answers GET /health and is past its start; run by the engine, often.

Without any import that takes time: in a container that has half a core this runs every five seconds.
"""

import os
import signal
import socket
import sys

ANSWER_S = 3
ENDS_S = 5
"""An engine stops waiting for a check then and begins the next one, but older ones (20.10) do not end it: on a machine
that is out of breath they would heap up."""
ASKED = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def problem(port: int) -> str:
    """What is not well with the program on a port of this container, nothing where all is."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
            connection.sendall(ASKED)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError as error:
        return f"127.0.0.1:{port} does not answer: {error}"
    status = answer.partition(b"\r\n")[0]
    if b" 200" in status and b'"phase":"starting"' not in answer:
        return ""
    return f"127.0.0.1:{port} is not healthy yet: {answer[-200:].decode('latin-1')}"


if __name__ == "__main__":
    signal.alarm(ENDS_S)
    sys.exit(problem(int(os.environ.get("MCP_ADMIN_PORT") or os.environ.get("MCP_PORT") or 0)) or 0)
