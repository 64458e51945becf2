#!/usr/bin/python3 -IS
"""Ends with 0 where this container's program answers GET /health and is past its start; run by the engine, often."""

import os
import socket
import sys

port = int(os.environ.get("MCP_ADMIN_PORT") or os.environ.get("MCP_PORT") or 0)
try:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
except OSError as error:
    sys.exit(f"127.0.0.1:{port} does not answer: {error}")
status = answer.partition(b"\r\n")[0].decode("latin-1")
if " 200" not in status or b'"phase":"starting"' in answer:
    sys.exit(f"127.0.0.1:{port} is not healthy yet: {status}, {answer[-200:]!r}")
