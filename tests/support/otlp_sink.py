"""A collector that takes spans and throws them away, as cheaply as one can be in Python: `otlp_sink.py PORT`.

For benchmarks, where the receiver must not be what is measured. `GET` on PORT + 1 answers as soon as it listens.
"""

from __future__ import annotations

import http.server
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD = "Export"
SERVICES = tuple(f"opentelemetry.proto.collector.{kind}.v1.{kind.title()}Service" for kind in ("trace", "logs"))


def take(_: bytes, __: grpc.ServicerContext) -> bytes:
    """Nothing was wrong with it."""
    return b""


def main(port: int) -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(take)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, {METHOD: handler}) for service in SERVICES)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    http.server.HTTPServer(("127.0.0.1", port + 1), http.server.SimpleHTTPRequestHandler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
