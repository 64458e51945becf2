"""The supervisor, with real tiny processes."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compose.local.errors import BadInput, BadSettings, NotRunning, Overtaken, StepFailed
from compose.local.link import start_supervisor
from compose.local.ports import is_free
from compose.local.ready import wait_until_scaled
from compose.local.table import Ready
from tests.support.lines import whole_lines

pytestmark = pytest.mark.local
Make = Callable[..., Any]
NEVER = Ready(url="http://127.0.0.1:9/")


def port_of(url: str) -> int:
    return httpx.URL(url).port or 0


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.feature("B5")
def test_a_killed_process_is_back_within_five_seconds(make: Make, tiny: Make, until: Make) -> None:
    environment = make(tiny("one"))
    environment.up()
    first = environment.pid("one")
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: environment.process("one").ready and environment.pid("one") != first, "back and ready", 5)
    assert time.monotonic() - began < 5
    assert environment.process("one").restarts == 1


def test_a_process_killed_three_times_in_a_row_still_comes_back_within_five_seconds(
    make: Make, tiny: Make, until: Make
) -> None:
    environment = make(tiny("one"))
    environment.up()
    for _ in range(3):
        pid = environment.pid("one")
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: environment.process("one").ready and environment.pid("one") != pid, "back", 5)


def test_what_a_killed_process_left_is_ended_before_it_is_started_again(
    make: Make, tiny: Make, until: Make, tmp_path: Path
) -> None:
    environment = make(tiny("one", "--grandchild", str(tmp_path / "pid")))
    environment.up()
    grandchild = int((tmp_path / "pid").read_text())
    os.kill(environment.pid("one"), signal.SIGKILL)
    until(lambda: gone(grandchild), "the grandchild, in a session of its own, is gone")
    until(lambda: environment.process("one").ready, "back")


def test_down_leaves_no_process_and_no_port(make: Make, tiny: Make, tmp_path: Path) -> None:
    environment = make(tiny("one", "--grandchild", str(tmp_path / "pid")), tiny("two", after=("one",)))
    environment.up()
    ports = [port_of(process.url) for process in environment.link.status().processes]
    assert len(environment.mine()) >= 4
    assert environment.down() == []
    assert environment.mine() == []
    assert all(is_free(port) for port in ports)
    assert not environment.layout.socket.exists()
    with pytest.raises(NotRunning):
        environment.link.status()


def test_a_process_deaf_to_term_is_killed_at_its_deadline(make: Make, tiny: Make) -> None:
    environment = make(tiny("one", "--deaf", stop_s=0.5))
    environment.up()
    began = time.monotonic()
    environment.down()
    assert environment.mine() == []
    assert 0.5 <= time.monotonic() - began < 5


def test_down_ends_everything_although_the_supervisor_was_killed(
    make: Make, tiny: Make, until: Make, tmp_path: Path
) -> None:
    environment = make(tiny("one", "--grandchild", str(tmp_path / "pid")), tiny("two"))
    environment.up()
    ports = [port_of(process.url) for process in environment.link.status().processes]
    supervisor = environment.link.status().pid
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: gone(supervisor), "the supervisor is gone")
    assert len(environment.down()) == 3
    assert environment.mine() == []
    assert all(is_free(port) for port in ports)


def test_up_after_the_supervisor_was_killed_ends_the_old_processes_and_starts_new_ones(make: Make, tiny: Make) -> None:
    environment = make(tiny("one"))
    environment.up()
    old, supervisor = environment.pid("one"), environment.link.status().pid
    os.kill(supervisor, signal.SIGKILL)
    environment.up()
    assert gone(old)
    assert environment.process("one").ready
    assert environment.link.status().pid != supervisor


def test_a_recorded_pid_that_belongs_to_somebody_else_now_is_left_alone(make: Make, tiny: Make) -> None:
    environment = make(tiny("one"))
    environment.up()
    os.kill(environment.link.status().pid, signal.SIGKILL)
    with psutil.Popen(["sleep", "600"]) as stranger:
        record = json.loads(environment.layout.processes.read_text())
        record["one"] = {"pid": stranger.pid, "at": 1.0}
        environment.layout.processes.write_text(json.dumps(record))
        environment.down()
        assert stranger.is_running()
        assert environment.mine() == []
        stranger.kill()


def test_two_environments_run_side_by_side(make: Make, tiny: Make) -> None:
    first, second = make(tiny("one")), make(tiny("one"))
    first.up()
    second.up()
    first.down()
    assert second.process("one").ready
    assert first.mine() == []


def test_a_process_starts_only_when_those_before_it_are_ready_and_stops_before_them(make: Make, tiny: Make) -> None:
    environment = make(tiny("late", after=("early",)), tiny("early"))
    environment.up()
    environment.down()
    events = [json.loads(line) for line in whole_lines(environment.layout.log("supervisor"))]
    order = [f"{event['event']} {event['process']}" for event in events if event.get("process")]
    wanted = ["started early", "ready early", "started late", "ended late", "ended early"]
    assert [entry for entry in order if entry in wanted] == wanted


def test_restart_starts_a_process_anew(make: Make, tiny: Make) -> None:
    environment = make(tiny("one"), tiny("two"))
    environment.up()
    one, two = environment.pid("one"), environment.pid("two")
    environment.link.restart("one")
    assert environment.pid("one") != one
    assert environment.pid("two") == two
    with pytest.raises(BadInput, match=r"no process 'three'; there are: one, two"):
        environment.link.restart("three")
    with pytest.raises(BadInput, match=r"no process was named; there are: one, two"):
        environment.link.restart("")
    with pytest.raises(BadInput):
        environment.link.restart("\udce9/ b")


def test_a_process_that_cannot_run_is_named_with_its_last_words(make: Make, tiny: Make) -> None:
    environment = make(tiny("one", "--exit", "1"))
    with pytest.raises(StepFailed) as caught:
        environment.up()
    assert "one: it ended with exit code 1" in str(caught.value)
    assert "cannot go on, code 1" in str(caught.value)


def test_a_process_that_refuses_its_settings_is_given_up_at_once_with_all_it_said(make: Make, tiny: Make) -> None:
    environment = make(tiny("one", "--exit", "78"), tiny("two"))
    for _ in range(2):  # what was said at earlier starts is in the same log
        with pytest.raises(BadSettings) as caught:
            environment.up()
        assert caught.value.exit_code == 2
        assert str(caught.value).count("cannot go on, code 78") == 1
        assert environment.process("one").restarts == 1
        environment.down()


def test_a_process_that_refuses_its_settings_is_not_started_again_soon_unless_told_to(
    make: Make, tiny: Make, until: Make
) -> None:
    environment = make(tiny("one", "--exit", "78"))
    with pytest.raises(BadSettings):
        environment.up()
    until(lambda: environment.process("one").state == "backing off", "backing off")
    began = time.monotonic()
    environment.link.restart("one")
    until(lambda: environment.process("one").restarts == 2, "told to, it was started", 5)
    until(lambda: environment.process("one").restarts == 3, "it was started again", 20)
    assert time.monotonic() - began > 9


def test_a_scale_whose_instances_refuse_their_settings_is_given_up_at_once(make: Make, service: Make) -> None:
    refusing = service("echo", "raise SystemExit(78)", NEVER)  # else it is ready until it has ended
    environment = make(services=(refusing,))
    with pytest.raises(BadSettings):
        environment.up()
    wish = environment.scale("echo", "", 2)
    with pytest.raises(BadSettings, match=r"echo-1\.0\.0-\d: it refused its settings, exit code 78"):
        wait_until_scaled(environment.layout, wish, environment.report, 60)


def test_a_wish_that_another_replaces_says_so(make: Make, service: Make) -> None:
    environment = make(services=(service("echo"),))
    environment.up()
    first, second = environment.scale("echo", "", 5), environment.scale("echo", "", 1)
    with pytest.raises(Overtaken, match=r"scaled echo 1\.0\.0 to 1 while this waited for 5") as caught:
        wait_until_scaled(environment.layout, first, environment.report, 20)
    assert caught.value.exit_code == 1
    assert wait_until_scaled(environment.layout, second, environment.report, 20).scale == {"echo": {"1.0.0": 1}}


def test_a_service_scaled_to_0_in_every_version_is_named(make: Make, service: Make) -> None:
    environment = make(services=(service("echo"), service("other")))
    environment.up()
    environment.scale("echo", "", 0)
    environment.scale("other", "", 0)
    environment.scale("other", "1.1.0", 1)
    assert environment.link.status().scaled_to_0() == ("echo",)


def test_scale_starts_and_stops_instances_and_is_remembered(make: Make, service: Make, until: Make) -> None:
    environment = make(services=(service("echo"),))
    environment.up()

    def names() -> list[str]:
        return [process.name for process in environment.link.status().processes if process.ready]

    assert names() == ["echo-1.0.0-1"]
    first = environment.pid("echo-1.0.0-1")
    environment.scale("echo", "", 3)
    environment.scale("echo", "1.1.0", 1)
    everything = ["echo-1.0.0-1", "echo-1.0.0-2", "echo-1.0.0-3", "echo-1.1.0-1"]
    until(lambda: names() == everything, "four instances")
    assert environment.pid("echo-1.0.0-1") == first
    environment.down()
    environment.up()
    assert names() == everything
    environment.scale("echo", "1.0.0", 1)
    environment.scale("echo", "1.1.0", 0)
    until(lambda: [process.name for process in environment.link.status().processes] == ["echo-1.0.0-1"], "one left")


def test_only_the_first_instance_takes_the_port_of_the_settings(make: Make, service: Make) -> None:
    environment = make(services=(service("echo"),))
    environment.up()
    environment.scale("echo", "", 2)
    lines = {tuple(process.cmdline()[-3:]) for process in environment.mine() if "time.sleep" in str(process.cmdline())}
    assert {(line[0], line[2]) for line in lines} >= {("1.0.0", "4711")}
    assert all(len(line[1]) == 6 for line in lines)


@pytest.mark.parametrize(
    ("name", "version", "count", "said"),
    [
        ("nothing", "", 1, "no service 'nothing'; there are: echo"),
        ("é/ b", "", 1, "no service 'é/ b'; there are: echo"),
        ("echo", "a/b", 1, "'a/b' is no version"),
        ("echo", "", -1, "-1 instances"),
        ("echo", "", 1000, "it must be 0 to 50"),
    ],
)
def test_an_impossible_scale_is_refused(
    make: Make, service: Make, name: str, version: str, count: int, said: str
) -> None:
    environment = make(services=(service("echo"),))
    environment.up()
    with pytest.raises(BadInput, match=said):
        environment.scale(name, version, count)


def test_a_second_supervisor_in_the_same_directory_is_refused(make: Make, tiny: Make) -> None:
    environment = make(tiny("one"))
    environment.up()
    with pytest.raises(StepFailed, match="another supervisor runs"):
        start_supervisor(environment.layout, environment.report)


def test_instances_get_a_new_mark_at_each_start(make: Make, service: Make, until: Make) -> None:
    environment = make(services=(service("echo"),))
    environment.up()
    before = environment.process("echo-1.0.0-1").instance
    os.kill(environment.pid("echo-1.0.0-1"), signal.SIGKILL)
    until(lambda: environment.process("echo-1.0.0-1").instance not in ("", before), "a new mark")


@pytest.mark.feature("B5")
def test_one_that_lives_and_is_not_ready_for_long_is_restarted_and_one_that_nobody_can_ask_about_is_not(
    make: Make, tiny: Make, until: Make, tmp_path: Path
) -> None:
    """As Consul tells of instances: `registry` is asked, and says what lies in a file."""
    said = tmp_path / "said"
    said.write_text("sick well")
    registry = tiny("registry", "--says", str(said))
    watched = tiny("sick", after=("registry",)).model_copy(
        update={"ready": Ready(url=registry.url, contains="sick"), "failing_s": 1.0}
    )
    environment = make(registry, watched)
    environment.up()
    before = environment.pid("sick")
    environment.link.restart("registry")
    assert environment.pid("sick") == before
    said.write_text("well")
    until(lambda: environment.process("sick").restarts == 1, "a restart of what fails", 20)
    said.write_text("sick well")
    until(lambda: environment.process("sick").ready, "it to be ready again", 20)
    assert environment.pid("sick") != before
    assert "restarted, alive and failing" in environment.layout.log("supervisor").read_text()
