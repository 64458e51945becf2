"""A tiny program for the supervisor to run: an HTTP server that can be told to misbehave.

Run as a script: standin.py PORT [--grandchild FILE] [--deaf] [--exit CODE]
"""

import argparse
import http.server
import os
import signal
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--grandchild", type=Path, help="start a sleeper in a session of its own and write its pid here")
parser.add_argument("--deaf", action="store_true", help="ignore TERM")
parser.add_argument("--exit", type=int, help="end at once with this code")
parser.add_argument("--says", type=Path, help="answer with what lies in this file")
options = parser.parse_args()


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every GET with its own pid and instance."""

    def do_GET(self) -> None:
        """Answer."""
        own = f"{os.getpid()} {os.environ.get('INSTANCE', '')}"
        body = (options.says.read_text() if options.says else own).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def stop(*_: object) -> None:
    """End with code 0."""
    sys.exit(0)


if options.exit is not None:
    print(f"cannot go on, code {options.exit}", flush=True)
    sys.exit(options.exit)
signal.signal(signal.SIGTERM, signal.SIG_IGN if options.deaf else stop)
if options.grandchild:
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    options.grandchild.write_text(str(sleeper.pid))
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Answer).serve_forever()
