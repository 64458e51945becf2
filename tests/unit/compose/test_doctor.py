"""What `tekup doctor` makes of the answers of the operators' API."""

import pytest

from compose.local.doctor import certificate_finding, plane_findings, rollout_finding, service_findings
from compose.local.finding import Finding
from compose.local.operators_api import Decided, GateShown, InstanceShown, PlaneStatus, ServiceShown


def gate(revision: int, *problems: str, live: bool = True, epoch: int = 1) -> GateShown:
    return GateShown(id="local", live=live, epoch=epoch, revision=revision, problems=problems)


def plane(*gates: GateShown, leading: bool = True, initialised: bool = True, message: str = "") -> PlaneStatus:
    revision = 7 if initialised else 0
    return PlaneStatus(
        leading=leading, initialised=initialised, epoch=1, revision=revision, gates=gates, message=message
    )


def faults(status: PlaneStatus) -> list[Finding]:
    found = [finding for finding in plane_findings(status) if not finding.ok]
    assert all(finding.remedy for finding in found)
    return found


def test_a_gate_with_the_policy_in_force_is_sound() -> None:
    assert [(finding.what, finding.said) for finding in plane_findings(plane(gate(7)))] == [
        ("policy", "1/7"),
        ("gate local", "1/7 in force"),
    ]


def test_each_problem_of_a_gate_is_named() -> None:
    older = "Consul holds epoch 1 revision 7, older than the 1/61 in force"
    assert [finding.said for finding in faults(plane(gate(61, older, "and another")))] == [older, "and another"]


def test_a_gate_that_is_one_revision_behind_is_named() -> None:
    (fault,) = faults(plane(gate(6)))
    assert fault.said == "has 1/6 in force, the policy is 1/7"
    assert faults(plane(gate(9, epoch=0)))


def test_a_gate_whose_agent_is_gone_is_named_with_how_to_give_it_up() -> None:
    (fault,) = faults(plane(gate(7, live=False)))
    assert "agent is gone" in fault.said
    assert "tekup gates forget local" in fault.remedy


def test_no_gate_no_leader_and_no_policy_are_named() -> None:
    found = faults(plane(leading=False, initialised=False, message="Consul holds no TekUp state."))
    assert [finding.what for finding in found] == ["leadership", "policy", "gates"]
    assert found[1].said == "Consul holds no TekUp state."
    assert "tekup state init" in found[1].remedy


def service(*instances: InstanceShown, stable: str = "1.0.0") -> ServiceShown:
    return ServiceShown(name="search", policy=Decided(stable=stable), instances=instances)


def instance(version: str, *, state: str = "serving", passing: bool = True) -> InstanceShown:
    return InstanceShown(version=version, state=state, passing=passing)


def test_a_service_whose_stable_version_serves_is_sound() -> None:
    (finding,) = service_findings([service(instance("1.0.0"), instance("1.1.0"))])
    assert (finding.ok, finding.said) == (True, "1.0.0 serves")


def test_a_service_whose_stable_version_has_no_serving_instance_is_named_with_who_serves_instead() -> None:
    idle = (instance("1.0.0", state="draining"), instance("1.0.0", passing=False))
    (nobody,) = service_findings([service(*idle)])
    assert not nobody.ok
    assert nobody.said == "no instance of the stable 1.0.0 serves, its calls get 503"
    (others,) = service_findings([service(*idle, instance("1.1.0"), instance("1.1.0"))])
    assert others.said == "no instance of the stable 1.0.0 serves, 1.1.0 takes its calls"
    assert "tekup scale search=1 --version 1.0.0" in others.remedy


def test_an_instance_whose_probe_fails_is_named_with_what_failed() -> None:
    sick = InstanceShown(
        version="1.0.0", state="serving", passing=True, id="aaaaaa", probe="failing: search_grep: drill"
    )
    _, found = service_findings([service(sick, instance("1.0.0"))])
    assert (found.ok, found.said) == (False, "1.0.0 aaaaaa is there, but search_grep: drill")


def test_a_rollout_that_waits_for_a_person_is_named_and_no_fault() -> None:
    finding = rollout_finding("rollout search 1.0.0 -> 1.1.0: waits for approval: go on?")
    assert finding == Finding("rollout search 1.0.0 -> 1.1.0", True, "waits for approval: go on?")


def test_a_service_nobody_has_decided_about_is_passed_over() -> None:
    assert not list(service_findings([ServiceShown(name="search", policy=None, instances=())]))


def test_a_certificate_that_nobody_renews_is_named_before_it_ends() -> None:
    assert certificate_finding("mcp-search-abcdef", 72 * 3600).ok
    late = certificate_finding("mcp-search-abcdef", 5 * 3600)
    assert not late.ok
    assert "ends in 5.0 hours" in late.said
    assert "tekup logs consul" in late.remedy


@pytest.mark.feature("C10")
def test_a_git_history_that_was_rewritten_is_named_with_its_runbook() -> None:
    (fault,) = faults(plane(gate(7)).model_copy(update={"mirror": "the remote's history was rewritten"}))
    assert (fault.what, fault.said) == ("git mirror", "the remote's history was rewritten")
    assert "GitMirrorRewritten" in fault.remedy
