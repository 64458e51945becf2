"""A container that sends as much as it can, and how much of that leaves by its link."""

from __future__ import annotations

FLOOD = """
import json, socket, sys, time
def sent():
    return int(open("/sys/class/net/eth0/statistics/tx_bytes").read())
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = (socket.gethostbyname(sys.argv[1]), 9)
began, before = time.monotonic(), sent()
while time.monotonic() < began + float(sys.argv[2]):
    try:
        out.sendto(bytes(8000), to)
    except OSError:
        pass
print(json.dumps({"rate": (sent() - before) / (time.monotonic() - began)}))
"""
"""A script, run with a neighbour's name or address, who need not listen, and seconds: bytes per second, as JSON."""
