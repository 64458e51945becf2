"""Every log line is one JSON object with the service on it."""

from __future__ import annotations

import json
import logging
import sys

from services.common.logs import JsonFormatter

FORMATTER = JsonFormatter({"service": "demo", "version": "1.0.0", "instance": "a1b2c3"})


def test_a_line_carries_event_fields_and_service() -> None:
    record = logging.LogRecord("services.x", logging.INFO, "f", 1, "call", None, None)
    record.__dict__.update(tool="demo_x", odd=object)
    line = json.loads(FORMATTER.format(record))
    assert (line["event"], line["level"], line["tool"], line["service"]) == ("call", "info", "demo_x", "demo")
    assert "logger" not in line
    assert line["ts"].endswith("+00:00")


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("lib", logging.ERROR, "f", 1, "went %s", ("wrong",), sys.exc_info())
    text = FORMATTER.format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["event"], line["logger"]) == ("went wrong", "lib")
    assert "ValueError: a\nb" in line["exception"]
