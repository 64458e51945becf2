"""FastMCP's proxy before one server, run by its own Python: `fastmcp_proxy.py PORT URL`."""

import sys

from fastmcp.server import create_proxy  # type: ignore[import-not-found]

port, url = sys.argv[1:]
proxy = create_proxy({"mcpServers": {"bench": {"url": url}}}, name="bench")
proxy.run(transport="http", host="127.0.0.1", port=int(port), show_banner=False, log_level="error")
