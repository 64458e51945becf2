"""The settings of the programs for who is on call: what runs, where, how much of what is kept for how long."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from .alerting_settings import AlertSettings

EXTRAS = {
    "prometheus": "metrics, Prometheus",
    "alertmanager": "alerts, Alertmanager's API",
    "loki": "log lines, Loki's API",
    "jaeger": "traces, Jaeger's API",
    "collector": "takes traces, OTLP over gRPC",
}
"""What runs only when asked for and what it is, each a program of that name with a port `MCP_<NAME>_PORT`."""
_AGE = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _age(text: str) -> str:
    if not _AGE.fullmatch(text):
        raise ValueError("it must be a number and s, m, h or d, as in 6h or 7d")
    return text


def age_s(age: str) -> int:
    """An age as in `6h`, in seconds.

    Args:
        age: a number and one of s, m, h, d.
    """
    number, unit = age[:-1], age[-1]
    return int(timedelta(**{_UNITS[unit]: int(number)}).total_seconds())


Port = Annotated[int, Field(ge=0, le=65535)]
Age = Annotated[str, AfterValidator(_age)]


class ObservabilitySettings(AlertSettings):
    """What can be set about metrics, logs and traces. Ports: 0 takes a free one."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    prometheus_port: Port = Field(9090, alias="MCP_PROMETHEUS_PORT", description="Prometheus, where it is asked for")
    loki_port: Port = Field(3100, alias="MCP_LOKI_PORT", description="Loki, where it is asked for")
    jaeger_port: Port = Field(16686, alias="MCP_JAEGER_PORT", description="Jaeger's API, where it is asked for")
    collector_port: Port = Field(
        4317, alias="MCP_COLLECTOR_PORT", description="traces by OTLP over gRPC, where the collector is asked for"
    )
    trace_sample: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, alias="MCP_TRACE_SAMPLE", description="the share of calls whose trace is kept, where the collector runs"
    )
    prometheus_retention: Age = Field(
        "6h", alias="MCP_PROMETHEUS_RETENTION", description="how long metrics are kept: a number and s, m, h or d"
    )
    prometheus_bytes: Annotated[int, Field(ge=16 << 20)] = Field(
        500_000_000, alias="MCP_PROMETHEUS_BYTES", description="metrics kept at most, whatever their age"
    )
    loki_retention: Age = Field("1d", alias="MCP_LOKI_RETENTION", description="how long Loki keeps log lines")
    jaeger_retention: Age = Field("1d", alias="MCP_JAEGER_RETENTION", description="how long Jaeger keeps traces")
    log_file_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = Field(
        10 << 20, alias="MCP_LOG_FILE_BYTES", description="a process's log is cut when it is larger"
    )
    log_files: Annotated[int, Field(ge=1, le=20)] = Field(
        1, alias="MCP_LOG_FILES", description="how many cut-off parts of each log are kept"
    )
