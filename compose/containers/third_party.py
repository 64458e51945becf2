"""The images of others that the Compose files run: one table of names and tags.

A Compose file pins each as `${TEKUP_IMAGE_CONSUL:-hashicorp/consul:1.22.5}`; a test holds them against this table. The
versions are those of the programs that the local environment runs. Tests cannot pull: they build images of the same
name and tag around the same programs (tests/support/stand_ins.py). Grafana is in no package registry, so where images
cannot be pulled there is no Grafana.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ThirdParty:
    """One image that we run and do not make."""

    service: str
    """Its service in the Compose files."""
    repository: str
    tag: str
    program: str = ""
    """What it is among `compose.local.programs`; empty where it cannot be had as a program."""

    @property
    def image(self) -> str:
        """Name and tag."""
        return f"{self.repository}:{self.tag}"

    @property
    def variable(self) -> str:
        """The variable that puts another image in its place."""
        return f"TEKUP_IMAGE_{self.service.upper()}"

    @property
    def in_compose(self) -> str:
        """What a Compose file has as `image`."""
        return f"${{{self.variable}:-{self.image}}}"


_TABLE = (
    ThirdParty("consul", "hashicorp/consul", "1.22.5", "consul"),
    ThirdParty("prometheus", "prom/prometheus", "v3.13.5", "prometheus"),
    ThirdParty("alertmanager", "prom/alertmanager", "v0.31.1", "alertmanager"),
    ThirdParty("loki", "grafana/loki", "3.7.8", "loki"),
    ThirdParty("jaeger", "jaegertracing/all-in-one", "1.62.0", "jaeger"),
    # built from observability/collector, which holds only the components we use; nobody else has it
    ThirdParty("collector", "tekup/collector", "0.165.0", "collector"),
    ThirdParty("grafana", "grafana/grafana", "12.3.2"),
)
THIRD_PARTIES: Mapping[str, ThirdParty] = {each.service: each for each in _TABLE}
