"""Instances that stand in no catalog: what a variable names, and what is none."""

import pytest

from control_plane.errors import Refused
from control_plane.fixed import fixed_instances
from control_plane.model import Instance
from control_plane.registry import Registry


class Nobody:
    """A catalog that has never answered."""

    async def service_names(self, *, after: int = 0, wait_s: float = 0) -> tuple[int, frozenset[str]]:
        raise NotImplementedError

    async def gate_urls(self) -> dict[str, str]:
        raise NotImplementedError

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        raise NotImplementedError


@pytest.mark.feature("F2")
def test_a_variable_names_an_instance_of_the_version_fixed() -> None:
    found = fixed_instances({"MCP_SERVICES_BROWSER_URL": "http://browser.lan:3001", "MCP_SERVICES_CODE_SEARCH_URL": "http://10.0.0.7:9/",
                             "MCP_SERVICES_HUB_URL": "", "MCP_GATEWAY_URL": "http://x:1"})  # fmt: skip
    assert [(one.service, one.version, one.url, one.live) for one in found] == [
        ("browser", "fixed", "http://browser.lan:3001", True),
        ("code-search", "fixed", "http://10.0.0.7:9", True),
    ]
    assert len({one.id for one in found}) == 2


@pytest.mark.parametrize(
    "url",
    ["browser:3001", "https://browser:3001", "http://browser", "http://browser:3001/mcp", "http://u@b:1", "http://b:x"],
)
def test_what_is_no_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(Refused, match=r"MCP_SERVICES_BROWSER_URL = .*it must be http://host:port"):
        fixed_instances({"MCP_SERVICES_BROWSER_URL": url})


def test_it_is_there_whatever_the_catalog_says() -> None:
    fixed = fixed_instances({"MCP_SERVICES_BROWSER_URL": "http://browser:3001"})
    assert Registry(Nobody(), fixed=fixed).instances == fixed
