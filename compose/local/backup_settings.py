"""Settings of backups."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class BackupSettings(BaseModel):
    """Where backups go, how often, and how many are kept."""

    backup_folder: str = Field(
        "", alias="MCP_BACKUP_FOLDER", description="where backups lie; empty: tekup-backups in this directory"
    )
    backup_key_file: str = Field(
        "",
        alias="MCP_BACKUP_KEY_FILE",
        description="age identity that opens them, 0600; empty: of this user, made once",
    )
    backup_every_h: Annotated[float, Field(ge=0, le=24 * 366)] = Field(
        0, alias="MCP_BACKUP_EVERY_H", description="hours between backups; 0: only by hand"
    )
    backup_keep_daily: Annotated[int, Field(ge=1, le=1000)] = Field(
        7, alias="MCP_BACKUP_KEEP_DAILY", description="of so many days the last backup is kept"
    )
    backup_keep_weekly: Annotated[int, Field(ge=0, le=1000)] = Field(
        4, alias="MCP_BACKUP_KEEP_WEEKLY", description="of so many weeks the last backup is kept"
    )
    backup_hold_s: Annotated[float, Field(gt=0, le=8)] = Field(
        5.0, alias="MCP_BACKUP_HOLD_S", description="the most that writers of files wait for a backup"
    )
