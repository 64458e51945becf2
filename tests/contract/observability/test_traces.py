"""Spans reach a real OTLP receiver; where there is none, or one that hangs, nobody waits and nothing grows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gate import wait_until
from tests.support.otlp import Collector, collecting
from tests.support.ports import free_port

pytestmark = [pytest.mark.local, pytest.mark.feature("D4")]
ROOT = Path(__file__).parents[3]
WAIT_S = 60.0
START = """
import json, logging, resource, sys, time
from observability.telemetry.traces import Origin, join, leave, outgoing, root_span, span, traced
logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
def process(url, share=1.0, **more):
    return traced(Origin("tekup-test", "1.2.3", "abcdef"), url, share, **more)
def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def run(script: str, *arguments: str) -> tuple[dict[str, object], str]:
    """A process of its own, since the library keeps one provider a process: what it prints, and what it logs."""
    command = [sys.executable, "-c", START + textwrap.dedent(script), *arguments]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def test_spans_arrive_with_their_process_and_their_parents(collector: Collector) -> None:
    said, _ = run(
        """
        with process(sys.argv[1]):
            with root_span("outer", tekup_step=3) as outer:
                with span("inner", client=True) as inner:
                    inner.note(tekup_exit=0)
                    print(json.dumps(outgoing()))
                outer.note(tekup_end="well")
        """,
        collector.url,
    )
    (outer,), (inner,) = collector.wait("outer"), collector.wait("inner")
    assert outer.resource == {
        "service.name": "tekup-test", "service.version": "1.2.3", "service.instance.id": "abcdef",
    }  # fmt: skip
    assert (outer.kind, outer.parent, outer.about) == ("internal", "", {"tekup.step": 3, "tekup.end": "well"})
    assert (inner.kind, inner.parent, inner.about) == ("client", outer.span, {"tekup.exit": 0})
    assert str(said["traceparent"]).startswith(f"00-{outer.trace}-{inner.span}-0")


def test_without_a_collector_nothing_of_the_library_is_imported_and_nothing_is_said() -> None:
    said, _ = run(
        """
        with process(""):
            with root_span("outer") as outer, span("inner") as inner:
                outer.note(tekup_end="well")
                headers = outgoing()
                leave(join(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        print(json.dumps({"headers": headers, "heavy": [
            name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "grpc"))]}))
        """
    )
    assert said == {"headers": {}, "heavy": []}


def test_a_service_without_a_collector_imports_nothing_of_the_library_either() -> None:
    said, _ = run(
        """
        import services.search.__main__, services.hub.service, services.filesystem.service, services.common.run
        import control_plane.__main__, control_plane.agent.__main__
        print(json.dumps([
            name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "grpc"))]))
        """
    )
    assert not said


def test_a_step_outside_of_a_trace_makes_no_span(collector: Collector) -> None:
    run(
        """
        with process(sys.argv[1]):
            with span("alone"):
                headers = outgoing()
            with root_span("after"):
                pass
        print(json.dumps(headers))
        """,
        collector.url,
    )
    collector.wait("after")
    assert [one.name for one in collector.spans] == ["after"]


def test_what_is_raised_is_named_by_its_class_and_never_quoted(collector: Collector) -> None:
    run(
        """
        with process(sys.argv[1]):
            try:
                with root_span("broken"):
                    raise ValueError("a secret")
            except ValueError:
                pass
        print("{}")
        """,
        collector.url,
    )
    (broken,) = collector.wait("broken")
    assert (broken.failed, broken.said, broken.about) == (True, "", {"error.type": "ValueError"})


def test_a_trace_that_begins_elsewhere_is_kept_as_decided_there_and_others_by_their_share(collector: Collector) -> None:
    run(
        """
        kept, dropped = (f"00-{'ab' * 16}-{'cd' * 8}-{flag}" for flag in ("01", "00"))
        with process(sys.argv[1], 0.0):
            for parent, name in ((kept, "kept"), (dropped, "dropped"), ("", "root"), ("nonsense", "nonsense")):
                with root_span(name, parent=parent), span(f"{name}, inside"):
                    pass
            token = join(kept)
            with span("no step of ours is around it"):
                pass
            leave(token)
        print("{}")
        """,
        collector.url,
    )
    (kept,) = collector.wait("kept")
    assert (kept.trace, kept.parent) == ("ab" * 16, "cd" * 8)
    assert sorted(one.name for one in collector.spans) == ["kept", "kept, inside"]


MANY = """
with process(sys.argv[1], stop_within_s=1.0):
    for _ in range(5_000):
        with root_span("warm", tekup_padding="x" * 190):
            pass
    before_mb, slowest_s = megabytes(), 0.0
    for _ in range(30_000):
        began_s = time.thread_time()
        with root_span("many", tekup_padding="x" * 190):
            pass
        slowest_s = max(slowest_s, time.thread_time() - began_s)
    grown_mb, stopping_s = megabytes() - before_mb, time.monotonic()
print(json.dumps({"grown_mb": grown_mb, "slowest_s": slowest_s, "stop_s": time.monotonic() - stopping_s}))
"""


@pytest.mark.parametrize("how", ["dead", "mute", "holding"])
def test_a_collector_that_takes_nothing_costs_neither_time_nor_memory(how: str) -> None:
    """Dead: nothing listens. Mute: it takes the connection and is silent. Holding: it takes a batch and never ends."""
    with collecting() as collector, socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        collector.hold.set()
        ports = {"dead": free_port(), "mute": mute.getsockname()[1], "holding": collector.url.rpartition(":")[2]}
        said, logged = run(MANY, f"http://127.0.0.1:{ports[how]}")
    assert float(str(said["stop_s"])) < 5.0
    assert float(str(said["slowest_s"])) < 0.5
    assert float(str(said["grown_mb"])) < 64.0  # 30,000 spans would be three times as much
    assert len(logged.splitlines()) <= 1, logged


def test_a_collector_that_comes_later_gets_what_is_made_from_then_on() -> None:
    port = free_port()
    script = """
    with process(sys.argv[1]):
        for _ in range(600):
            with root_span("early"):
                pass
        print(json.dumps({}), flush=True)
        for _ in range(400):
            with root_span("late"):
                pass
            time.sleep(0.05)
    """
    command = [sys.executable, "-c", START + textwrap.dedent(script), f"http://127.0.0.1:{port}"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout
        assert running.stdout.readline()
        began_s = time.monotonic()
        try:
            with collecting(port) as collector:
                wait_until(lambda: collector.named("late"), "spans once there is a collector", 30)
        finally:
            running.kill()
    assert time.monotonic() - began_s < 30
