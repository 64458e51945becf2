"""The table of faults of containers, and what breaks one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.chaos.containers import Containers
from tests.chaos.fault import AT_ONCE_S, CUT_OFF, DIED, HOLD_S, NEVER, NOTHING, NOTICED_S, CannotBreak, Fault, Mend
from tests.support.engine_install import NoEngine

CUT_S = 20.0
LONG_S = 15.0
"""Longer than Traefik waits for an instance to greet it by TLS, which nobody can set."""
PAUSES = 5
Break = Callable[[Containers, Mend], None]
Which = Callable[[Containers], str]
"""The id of a container."""


def of(service: str) -> Which:
    """One container of a service."""
    return lambda on: on.one_of(service)


def leading(on: Containers) -> str:
    """The control plane that leads."""
    return on.one_of(on.leader())


def standing_by(on: Containers) -> str:
    """A control plane that does not."""
    names = {"control-plane", "control-plane-2", "control-plane-3"} - {on.leader()}
    return on.one_of(on.random.choice(sorted(names)))


def kill(which: Which) -> Break:
    """Ends a container's program as by a fault of its own, so that the engine starts it again."""

    def breaks(on: Containers, _: Mend) -> None:
        on.engine.crash(which(on))

    return breaks


def freeze(which: Which) -> Break:
    """Stops a container's time; its connections stay open."""

    def breaks(on: Containers, mend: Mend) -> None:
        container = which(on)
        _pause(on, container)
        mend.callback(on.engine.docker, "unpause", container)

    return breaks


def _pause(on: Containers, container: str) -> None:
    """The kernel's older freezer gives up when a process of the container is just being made; then once more.

    Raises:
        CannotBreak: It gave up each time.
    """
    for left in reversed(range(PAUSES)):
        try:
            on.engine.docker("pause", container)
        except NoEngine as error:
            if left == 0:
                raise CannotBreak(str(error)) from error
        else:
            return


def slow(which: Which) -> Break:
    """Gives a container a tenth of a processor."""

    def breaks(on: Containers, mend: Mend) -> None:
        container = which(on)
        before = int(on.engine.docker("inspect", "--format", "{{.HostConfig.NanoCpus}}", container)) / 1e9
        on.engine.docker("update", "--cpus", "0.1", container)
        mend.callback(on.engine.docker, "update", "--cpus", f"{before:g}", container)

    return breaks


def cut(which: Which) -> Break:
    """Nothing comes to a container any more, nor from it."""

    def breaks(on: Containers, mend: Mend) -> None:
        try:
            inside = on.engine.process_of(which(on))
        except NoEngine as error:
            raise CannotBreak(str(error)) from error
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            rule = (chain, "!", way, "lo", "-j", "DROP")
            _in_its_net(inside, "-I", *rule)
            mend.callback(_in_its_net, inside, "-D", *rule)

    return breaks


def _in_its_net(inside: int, *rule: str) -> None:
    command = ["nsenter", "-t", str(inside), "-n", "iptables", "-w", *rule]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBreak(f"nsenter: {error.strerror}") from error
    if done.returncode:
        raise CannotBreak(done.stderr.strip() or "iptables does not work here")


def killed(name: str, which: Which, costs: str = NOTHING, recovers_s: float = 60.0) -> Fault[Containers]:
    """A row: it is mended by whoever starts it again, so the time until all is well begins at once."""
    fails_s = AT_ONCE_S if costs == DIED else NEVER
    return Fault(f"{name} killed", costs, kill(which), recovers_s=recovers_s, fails_s=fails_s, lasts_s=0.0)


def frozen(name: str, which: Which, lasts_s: float = HOLD_S) -> Fault[Containers]:
    """A row."""
    return Fault(f"{name} frozen for {lasts_s:.0f} s", NOTHING, freeze(which), recovers_s=60, lasts_s=lasts_s)


def slowed(name: str, which: Which) -> Fault[Containers]:
    """A row."""
    return Fault(f"{name} with a tenth of a processor", NOTHING, slow(which), recovers_s=60)


def cut_off(name: str, which: Which, costs: str = NOTHING) -> Fault[Containers]:
    """A row."""
    fails_s = NOTICED_S if costs == CUT_OFF else NEVER
    title = f"{name} cut off from the net for {CUT_S:.0f} s"
    return Fault(title, costs, cut(which), recovers_s=60, fails_s=fails_s, lasts_s=CUT_S, alone=True)


CONSUL = tuple((f"Consul server {number} of three", of(f"consul-{number}")) for number in (1, 2, 3))
ON_CALL = (
    *((name, of(name.lower())) for name in ("Prometheus", "Alertmanager", "Loki", "Jaeger")),
    ("the collector", of("collector")),
)
AROUND = tuple(
    (f"the container of {name}", of(name))
    for name in ("consul-access", "keeper", "egress", "links", "rule-keeper", "usage", "certificate", "operators-gate")
)
INSTANCE, HUB = ("an instance of two", of("mcp-filesystem")), ("one hub of two", of("mcp-hub"))
GATE, AGENT = ("one gate of two", of("mcp-gateway-2")), ("one gate's agent", of("mcp-agent-2"))
LEADER, FOLLOWER = ("leading control plane", leading), ("standing-by control plane", standing_by)
ASKED = ("the Consul that everybody asks", of("consul"))

FAULTS: tuple[Fault[Containers], ...] = (
    killed(*INSTANCE, DIED),
    frozen(*INSTANCE),
    slowed(*INSTANCE),
    cut_off(*INSTANCE, CUT_OFF),
    killed(*HUB, DIED),
    frozen(*HUB),
    frozen(*HUB, LONG_S),
    killed(*GATE, DIED),
    frozen(*GATE),
    slowed(*GATE),
    killed(*AGENT),
    frozen(*AGENT),
    cut_off(*AGENT),
    killed(*LEADER),
    frozen(*LEADER),
    cut_off(*LEADER),
    killed(*FOLLOWER),
    *(killed(*one, recovers_s=120) for one in CONSUL),
    *(cut_off(*one) for one in CONSUL[:1]),
    killed(*ASKED),
    frozen(*ASKED),
    *(killed(*one) for one in (*ON_CALL, *AROUND)),
    *(frozen(*one) for one in ON_CALL),
)
