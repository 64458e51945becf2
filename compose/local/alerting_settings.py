"""The settings of alerts: who is told, where their runbooks lie, and how long minutes are."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Url = Annotated[str, Field(pattern=r"^$|^https?://[^\s\"{}$]+$")]
"""Nothing that YAML or a template would read as more than that."""


class AlertSettings(BaseModel):
    """What can be set about alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    alertmanager_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        9093, alias="MCP_ALERTMANAGER_PORT", description="Alertmanager, where it is asked for"
    )
    alert_webhook_url: Url = Field(
        "", alias="MCP_ALERT_WEBHOOK_URL", description="whom alerts are sent to; empty: they are only shown"
    )
    watchdog_webhook_url: Url = Field(
        "",
        alias="MCP_WATCHDOG_WEBHOOK_URL",
        description="who is told each minute that alerts arrive, and raises the alarm when it is not; empty: nobody",
    )
    runbooks_url: Annotated[str, Field(pattern=r"^[^\s\"{}$]*$")] = Field(
        "", alias="MCP_RUNBOOKS_URL", description="where messages say that runbooks lie; empty: in this checkout"
    )
    alert_time_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, alias="MCP_ALERT_TIME_SCALE", description="what durations of rules are multiplied by, for drills"
    )
