"""What breaks one part, and puts on a stack what mends it."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import psutil

from compose.local.authority import CA
from control_plane.model import Table
from tests.chaos.fault import CannotBreak, Mend
from tests.chaos.platform import CANARY, STABLE, Platform
from tests.support.gate import Gate, wait_until
from tests.support.stage import SERVICE, Process
from tests.support.wire import trusting

Break = Callable[[Platform, Mend], None]


# -- processes


def kill(process: Process, mend: Mend) -> None:
    process.end(signal.SIGKILL)
    mend.callback(process.start)


def freeze(process: Process, mend: Mend) -> None:
    process.send(signal.SIGSTOP)
    mend.callback(process.send, signal.SIGCONT)


@contextlib.contextmanager
def _slowed(pid: int) -> Iterator[None]:
    """A process that runs for a fifth of the time."""
    ended = threading.Event()

    def slow() -> None:
        found = psutil.Process(pid)
        while not ended.is_set():
            found.suspend()
            ended.wait(0.08)
            found.resume()
            ended.wait(0.02)

    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def slow(process: Process, mend: Mend) -> None:
    mend.enter_context(_slowed(process.pid))


def slow_gate(on: Platform, mend: Mend) -> None:
    process = _second(on).process
    assert process
    mend.enter_context(_slowed(process.pid))


def ledger(on: Platform) -> Process:
    return on.random.choice(on.ledgers)


def hub(on: Platform) -> Process:
    return on.random.choice(on.hubs)


def _second(on: Platform) -> Gate:
    """The gate that no hub speaks through."""
    return on.stage.gates[1]


def kill_gate(on: Platform, mend: Mend) -> None:
    gate = _second(on)
    gate.stop()
    mend.callback(gate.start)


def freeze_gate(on: Platform, mend: Mend) -> None:
    process = _second(on).process
    assert process
    process.send_signal(signal.SIGSTOP)
    mend.callback(process.send_signal, signal.SIGCONT)


def _replica(on: Platform, *, leads: bool) -> Process:
    leader = on.stage.leader()
    name = leader if leads else on.random.choice([name for name in on.stage.replicas if name != leader])
    return on.stage.replicas[name]


def _out(on: Platform, process: Process, mend: Mend) -> None:
    """Ask another replica for as long as this one is broken."""
    (name,) = [name for name, one in on.stage.replicas.items() if one is process]
    on.stage.out.add(name)
    mend.callback(on.stage.out.discard, name)


def break_replica(how: Callable[[Process, Mend], None], *, leads: bool) -> Break:
    def breaks(on: Platform, mend: Mend) -> None:
        process = _replica(on, leads=leads)
        _out(on, process, mend)
        how(process, mend)

    return breaks


def cut_replica(on: Platform, mend: Mend) -> None:
    process = _replica(on, leads=True)
    (name,) = [name for name, one in on.stage.replicas.items() if one is process]
    _out(on, process, mend)
    line = on.stage.lines[name]
    on.portal.call(line.cut)
    mend.callback(on.portal.call, line.heal)


def cut_instance(on: Platform, mend: Mend) -> None:
    line = on.random.choice(on.lines)
    on.portal.call(line.cut)
    mend.callback(on.portal.call, line.heal)


def prometheus_killed(on: Platform, mend: Mend) -> None:
    on.stage.prometheus.kill()
    mend.callback(on.stage.prometheus.start)


def prometheus_slow(on: Platform, mend: Mend) -> None:
    mend.enter_context(_slowed(on.stage.prometheus.pid))


def prometheus_frozen(on: Platform, mend: Mend) -> None:
    on.stage.prometheus.freeze()
    mend.callback(on.stage.prometheus.thaw)


def certificate_expired(on: Platform, mend: Mend) -> None:
    """One gate's certificate is of long ago; nobody who checks it connects any more."""
    mend.callback(on.calls.reconnect)
    mend.callback(on.certify)
    on.certify(timedelta(days=3650))
    on.calls.reconnect()


# -- Consul


def consul_leader(on: Platform, mend: Mend) -> None:
    mend.callback(on.cluster.start)
    on.cluster.lose_leader()


def consul_follower(on: Platform, mend: Mend) -> None:
    mend.callback(on.cluster.start)
    on.cluster.lose_follower()


def consul_slow(on: Platform, mend: Mend) -> None:
    mend.enter_context(_slowed(on.cluster.pid))


def consul_far(on: Platform, mend: Mend) -> None:
    """Everything between Consul and those who ask it takes 100 ms longer, each way."""
    for line in (*on.stage.lines.values(), *on.lines):
        line.delay(0.1)
        mend.callback(line.delay, 0.0)


def consul_frozen(on: Platform, mend: Mend) -> None:
    on.cluster.freeze()
    mend.callback(on.cluster.thaw)


def consul_out(on: Platform, mend: Mend) -> None:
    on.cluster.kill()
    mend.callback(on.cluster.start)


def consul_disk_lost(on: Platform, mend: Mend) -> None:
    on.cluster.lose_disk_of_one()
    mend.callback(on.cluster.start)


def consul_disk_full(on: Platform, mend: Mend) -> None:
    if on.cluster.small is None:
        raise CannotBreak("no disk of a hard size can be mounted here")
    ballast = on.cluster.small / "ballast"

    def empty() -> None:
        ballast.unlink(missing_ok=True)
        on.cluster.start()

    mend.callback(empty)
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)):
            pass


def consul_older(on: Platform, mend: Mend) -> None:
    """Back to a moment ago, as one who restores the wrong backup has it; mended by the right one."""
    with on.pen.paused():
        older = on.snapshot
        now = on.cluster.snapshot()
        on.cluster.restore(older)
    mend.enter_context(on.pen.paused())
    mend.callback(on.cluster.restore, now)


def consul_empty(on: Platform, mend: Mend) -> None:
    mend.enter_context(on.pen.paused())
    now = on.cluster.snapshot()
    on.cluster.kill()
    on.cluster.lose_data()
    on.cluster.start()

    def back() -> None:
        wait_until(on.cluster.led, "Consul led again", 60)
        on.cluster.restore(now)

    mend.callback(back)


def garbage(on: Platform, mend: Mend) -> None:
    url = f"{on.cluster.url}/v1/kv/{Table.SERVICES.prefix}{SERVICE}"
    mend.enter_context(on.pen.paused())
    right = httpx.get(f"{url}?raw", timeout=10, trust_env=False).content
    httpx.put(url, content=b"\x00{garbage", timeout=10, trust_env=False).raise_for_status()

    def put_right() -> None:
        httpx.put(url, content=right, timeout=10, trust_env=False).raise_for_status()
        on.stage.ask("POST", "/v1/repair", {"reason": "chaos"})

    mend.callback(put_right)


# -- the net


def _rule(action: str, *rule: str) -> None:
    done = subprocess.run(["iptables", "-w", action, "INPUT", "-i", "lo", "-p", "tcp", *rule],
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        raise CannotBreak(done.stderr.strip() or "iptables does not work here")


def _dropped(mend: Mend, *rule: str) -> None:
    try:
        _rule("-I", *rule, "-j", "DROP")
    except OSError as error:
        raise CannotBreak(f"iptables: {error.strerror}") from error
    mend.callback(_rule, "-D", *rule, "-j", "DROP")


def _ports(process: Process) -> list[int]:
    found = psutil.Process(process.pid).net_connections(kind="tcp")
    return sorted({one.laddr.port for one in found if one.status == psutil.CONN_LISTEN})


def loss(on: Platform, mend: Mend) -> None:
    """Every 20th packet to every instance is lost."""
    for process in on.ledgers:
        for port in _ports(process):
            _dropped(mend, "--dport", str(port), "-m", "statistic", "--mode", "random", "--probability", "0.05")


def partition(on: Platform, mend: Mend) -> None:
    """Nothing comes to one instance any more, nor from it."""
    for port in _ports(ledger(on)):
        _dropped(mend, "--dport", str(port))
        _dropped(mend, "--sport", str(port))


def _held(on: Platform, mend: Mend, count: int, sent: bytes) -> None:
    """Connections to the second gate that send this and then nothing, and never read."""
    host, port = urlsplit(_second(on).public).hostname, urlsplit(_second(on).public).port
    tls = urlsplit(_second(on).public).scheme == "https" and trusting(on.authority / CA)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count:
        raise CannotBreak(f"{hard} open files are the most here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count), hard))
    for _ in range(count):
        held = socket.create_connection((host or "", port or 0), timeout=10)
        if sent and tls:
            held = tls.wrap_socket(held, server_hostname=host)
        mend.callback(held.close)
        held.sendall(sent)


def idle(on: Platform, mend: Mend) -> None:
    _held(on, mend, 10_000, b"")


def never_read(on: Platform, mend: Mend) -> None:
    request = (
        f"POST /{SERVICE}/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {on.stage.key}\r\n"
        "Mcp-Method: tools/list\r\nMCP-Protocol-Version: 2026-07-28\r\nContent-Type: application/json\r\n"
        "Content-Length: 58\r\n\r\n"
    ).encode() + b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}'
    _held(on, mend, 100, 20 * request)


# -- resources and load


def no_descriptors(on: Platform, mend: Mend) -> None:
    pid = ledger(on).pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), before[1]))
    mend.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, before)


def no_memory(on: Platform, mend: Mend) -> None:
    """One instance gets no more address space; should it end of that, it is started again."""
    process = ledger(on)
    before = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (psutil.Process(process.pid).memory_info().vms, before[1]))

    def more() -> None:
        if process.alive:
            resource.prlimit(process.pid, resource.RLIMIT_AS, before)
        else:
            process.start()

    mend.callback(more)


def flapping(on: Platform, mend: Mend) -> None:
    """Two more instances that come and go, each time a new set of servers for the gates."""
    ended = threading.Event()

    def flap() -> None:
        while not ended.is_set():
            made = on.stage.add_instance(STABLE)
            ended.wait(3)
            made.end()
            on.stage.instances.remove(made)

    threads = [threading.Thread(target=flap, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()

    def stop() -> None:
        ended.set()
        for thread in threads:
            thread.join(60)

    mend.callback(stop)


def herd(on: Platform, mend: Mend) -> None:
    """Both gates away for three seconds; then everybody at once."""
    for gate in on.stage.gates:
        gate.stop()
    time.sleep(3)
    for gate in on.stage.gates:
        gate.start()
    mend.callback(on.portal.start_task_soon(on.calls.herd, 300).result, 120)


def bad_version(on: Platform, mend: Mend) -> None:
    on.stage.drill(CANARY, [{"tool": "ledger_note", "error": "a bad version"}])
    canary = on.stage.add_instance(CANARY)
    on.stage.serving(CANARY)
    on.stage.begin(CANARY, steps=[{"weight_pct": 20, "bake_s": 120}])

    def ended() -> None:
        on.stage.reached("rolled_back", within_s=120)
        canary.end()
        on.stage.instances.remove(canary)

    mend.callback(ended)
