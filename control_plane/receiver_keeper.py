"""Beside an Alertmanager: keeps operators' receivers in the file it reads, and has it read that again.

The platform's own configuration is a file of its own that is only read. What Alertmanager does not take leaves it with
what it has, and is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from control_plane.errors import Refused
from control_plane.files import write_whole
from control_plane.model import Table
from control_plane.receivers import Receiver, merged

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0


@dataclass
class AlertmanagerFile:
    """The file.

    Attributes:
        base: The platform's own configuration.
        target: What Alertmanager reads.
        url: Its address.
        secrets: The folder of the receivers' secrets, as Alertmanager sees it.
    """

    base: Path
    target: Path
    url: str
    secrets: str
    _taken: str = ""

    async def write(self, raws: Mapping[str, bytes]) -> None:
        """Bring it up to date.

        Args:
            raws: The receivers as they lie in Consul, by name; one that makes no sense is left out and logged.

        Raises:
            Refused: Alertmanager does not take it, or does not answer.
            OSError: A file cannot be read or written.
        """
        receivers = []
        for name, raw in raws.items():
            try:
                receivers.append(Receiver.stored(raw, Table.RECEIVERS.prefix, name))
            except Refused as error:
                log.warning("receivers.ignored", extra={"why": str(error)})
        text = merged(self.base.read_text("utf-8"), receivers, self.secrets)
        if text == self._taken:
            return
        if not self.target.exists() or self.target.read_text("utf-8") != text:
            write_whole(self.target, text.encode())
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
                answer = await http.post(f"{self.url.rstrip('/')}/-/reload")
        except httpx.HTTPError as error:
            raise Refused(
                f"Alertmanager at {self.url} does not answer: {str(error) or type(error).__name__}"
            ) from error
        if not answer.is_success:
            raise Refused(f"Alertmanager does not take its configuration: {answer.text[:300]}")
        self._taken = text
        log.info("receivers.taken_up", extra={"receivers": sorted(one.called for one in receivers)})
