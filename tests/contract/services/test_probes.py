"""What each service declares as its probe works for the control plane as well, which calls it through the gate."""

from __future__ import annotations

import pytest

from tests.contract.services.conftest import Instance

pytestmark = pytest.mark.local


@pytest.mark.feature("D8")
@pytest.mark.parametrize("service", ["browser", "filesystem", "search"])
async def test_the_declared_probes_work_for_the_control_plane(service: str, request: pytest.FixtureRequest) -> None:
    instance: Instance = request.getfixturevalue(service)
    async with instance.session("~control-plane") as session:
        listed = (await session.client.list_tools()).tools
        probes = {tool.name: (tool.meta or {}).get("dev.tekup/probe") for tool in listed}
        declared = {name: probe["arguments"] for name, probe in probes.items() if probe}
        assert declared
        for name, arguments in declared.items():
            assert not (await session.call(name, **arguments)).error
