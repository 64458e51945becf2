"""One log record as one line of JSON (docs/contracts.md, "Log lines")."""

import json
import logging
import time
from collections.abc import Mapping
from typing import Final

from opentelemetry import trace

from observability.telemetry.exceptions import told
from observability.telemetry.redaction import redacted, shown

__all__ = ["LONGEST_LINE", "OWN", "JsonLines"]

OWN: Final = ("services", "control_plane", "observability")
"""Packages whose messages are event names; those of others are text, and their lines say whose they are (`logger`)."""
LONGEST_LINE: Final = 16 * 1024
"""Bytes, the line's end not counted."""
_BUILT_IN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TAKEN: Final = frozenset({"ts", "level", "event", "trace_id", "span_id", "logger", "cut", "exception"})
_PARTS: Final = (4096, 1024, 256, 64)
"""To how many characters the texts of a line that is too long are cut, until it is not."""
_HEADS: Final = 256
# Nothing in a line can hold itself: what was given is copied, and cut at a depth.
_encode: Final = json.JSONEncoder(allow_nan=False, check_circular=False).encode
Fields = dict[str, object]


class JsonLines(logging.Formatter):
    """One JSON object a record, without secrets, of bounded length; never raises.

    Args:
        constant: Fields that every line carries: service, version, instance. A field of a record that has the name of
            one is called `about_<name>`, so that nobody takes what a line is about for who wrote it.
    """

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._constant: Fields = dict(constant)
        self._taken = _TAKEN | constant.keys()
        self._heads: dict[tuple[str, str], str] = {}
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        try:
            event = redacted(record.getMessage())
            fields = self._fields(record, event)
            try:
                text = self._text(record, event, fields)
                if len(text) <= LONGEST_LINE:
                    return text
                line = self._head(record, event) | fields
            except ValueError:  # infinite, or no number
                line = self._head(record, event) | {name: _finite(value) for name, value in fields.items()}
            text = _encode(line)
            return text if len(text) <= LONGEST_LINE else _shortened(line)
        except Exception as error:  # what somebody gave to be logged is no reason for a call to fail
            return _encode(self._unprintable(record, error))

    def _text(self, record: logging.LogRecord, event: str, fields: Fields) -> str:
        """The line, of which only time and fields are made anew where there was one like it."""
        key = (record.levelname, event)
        head = self._heads.get(key)
        if head is None:
            made = self._head(record, event)
            del made["ts"]
            head = _encode(made)[1:-1]
            if len(self._heads) < _HEADS and len(event) <= 64:
                self._heads[key] = head
        rest = f", {_encode(fields)[1:]}" if fields else "}"
        return f'{{"ts": "{self._time(record.created)}", {head}{rest}'

    def _fields(self, record: logging.LogRecord, event: str) -> Fields:
        fields: Fields = {}
        if not record.name.startswith(OWN):
            fields["logger"] = record.name
        span = trace.get_current_span()
        if span is not trace.INVALID_SPAN:
            context = span.get_span_context()
            if context.is_valid:
                fields["trace_id"], fields["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        for name, value in record.__dict__.items():
            if name not in _BUILT_IN:
                if name not in self._taken:
                    fields[name] = shown(name, value)
                elif value != (self._head(record, event) | fields).get(name):
                    fields[f"about_{name}"] = shown(name, value)
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = told(record.exc_info[1])
        return fields

    def _head(self, record: logging.LogRecord, event: str) -> Fields:
        level = record.levelname.lower()
        return {"ts": self._time(record.created), "level": level, "event": event, **self._constant}

    def _time(self, created_s: float) -> str:
        """When, to the millisecond; what lines of one second share is made once."""
        second, millisecond = divmod(int(created_s * 1000), 1000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{millisecond:03d}+00:00"

    def _unprintable(self, record: logging.LogRecord, error: Exception) -> Fields:
        where = f"{record.pathname}:{record.lineno}"
        return {**self._head(record, "log.unprintable"), "where": where, "problem": type(error).__name__}


def _shortened(line: Fields) -> str:
    """The line with its long texts cut, the latter halves of exceptions first; `cut` names the fields."""
    for longest in _PARTS:
        shorter = {name: _cut(value, longest) for name, value in line.items()}
        shorter["cut"] = [name for name, value in line.items() if shorter[name] is not value][:20]
        text = _encode(shorter)
        if len(text) <= LONGEST_LINE:
            return text
    few = dict(list(shorter.items())[:20])
    return _encode({**few, "cut": f"all but the first 20 of {len(line)} fields"})


def _cut(value: object, longest: int) -> object:
    """A value whose text is no longer than this; of what is cut the beginning and the end stay."""
    if isinstance(value, int | float) or value is None:
        return value
    text = value if isinstance(value, str) else _encode(_finite(value))
    if len(_encode(text)) <= longest + 2:
        return value
    half = longest // 12  # a character may take six bytes, and twelve beyond the first plane
    if text.isascii():
        half = longest // 4
    return f"{text[:half]} …({len(text) - 2 * half} characters)… {text[-half:]}"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
