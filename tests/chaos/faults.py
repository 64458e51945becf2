"""The table of faults of processes."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos import breaking
from tests.chaos.breaking import Break
from tests.chaos.fault import AT_ONCE_S, CUT_OFF, DIED, NOTHING, NOTICED_S, Fault
from tests.chaos.platform import CANARY, Platform
from tests.support.stage import Process

REPEATED_S = 120.0
"""What an agent of Consul's could not tell the servers is told again after about a minute (its anti-entropy; so with
Consul alone, too). Until then they know a check as it was told last, and gates go on with what they had."""


def kill(which: Callable[[Platform], Process]) -> Break:
    """Kills a process."""
    return lambda on, mend: breaking.kill(which(on), mend)


def freeze(which: Callable[[Platform], Process]) -> Break:
    """Stops a process's time; its connections stay open."""
    return lambda on, mend: breaking.freeze(which(on), mend)


def slow(which: Callable[[Platform], Process]) -> Break:
    """Lets a process run for a fifth of the time."""
    return lambda on, mend: breaking.slow(which(on), mend)


FAULTS: tuple[Fault[Platform], ...] = (
    Fault("an instance of three killed", DIED, kill(breaking.ledger), fails_s=AT_ONCE_S),
    Fault("an instance of three frozen for 8 s", NOTHING, freeze(breaking.ledger)),
    Fault("an instance of three frozen for 40 s", CUT_OFF, freeze(breaking.ledger),
          fails_s=NOTICED_S, lasts_s=40, recovers_s=60, alone=True),
    Fault("an instance of three slowed to a fifth", NOTHING, slow(breaking.ledger)),
    Fault("an instance of three without file descriptors", CUT_OFF, breaking.no_descriptors, fails_s=NOTICED_S),
    Fault("an instance of three without memory", CUT_OFF, breaking.no_memory, fails_s=NOTICED_S),
    Fault("an instance cut off from Consul", NOTHING, breaking.cut_instance),
    Fault("an instance cut off from the gates for 40 s", CUT_OFF, breaking.partition, fails_s=NOTICED_S, lasts_s=40,
          recovers_s=60, alone=True),
    Fault("each 20th packet to instances lost", NOTHING, breaking.loss),
    Fault("one hub of two killed", DIED, kill(breaking.hub), fails_s=AT_ONCE_S),
    Fault("one hub of two frozen for 8 s", NOTHING, freeze(breaking.hub)),
    Fault("one hub of two slowed to a fifth", NOTHING, slow(breaking.hub)),
    Fault("one gate of two killed", DIED, breaking.kill_gate, fails_s=AT_ONCE_S),
    Fault("one gate of two frozen for 8 s", NOTHING, breaking.freeze_gate),
    Fault("one gate of two slowed to a fifth", NOTHING, breaking.slow_gate),
    Fault("one gate's certificate expired", NOTHING, breaking.certificate_expired),
    Fault("one gate's agent killed", NOTHING, kill(lambda on: on.stage.agents[1])),
    Fault("one gate's agent frozen", NOTHING, freeze(lambda on: on.stage.agents[1])),
    Fault("leading control plane killed", NOTHING, breaking.break_replica(breaking.kill, leads=True)),
    Fault("leading control plane frozen", NOTHING, breaking.break_replica(breaking.freeze, leads=True)),
    Fault("leading control plane slowed to a fifth", NOTHING, breaking.break_replica(breaking.slow, leads=True)),
    Fault("leading control plane cut off from Consul", NOTHING, breaking.cut_replica),
    Fault("standing-by control plane killed", NOTHING, breaking.break_replica(breaking.kill, leads=False)),
    Fault("standing-by control plane frozen", NOTHING, breaking.break_replica(breaking.freeze, leads=False)),
    Fault("Consul's leader killed", NOTHING, breaking.consul_leader),
    Fault("a Consul server that does not lead killed", NOTHING, breaking.consul_follower),
    Fault("100 ms more to Consul and back", NOTHING, breaking.consul_far),
    Fault("the Consul server everybody asks slowed to a fifth", NOTHING, breaking.consul_slow),
    Fault("the Consul server everybody asks frozen", NOTHING, breaking.consul_frozen, recovers_s=REPEATED_S),
    Fault("all of Consul down for 60 s", NOTHING, breaking.consul_out, lasts_s=60, recovers_s=60, alone=True),
    Fault("one Consul server's data lost", NOTHING, breaking.consul_disk_lost, recovers_s=60),
    Fault("one Consul server's disk full", NOTHING, breaking.consul_disk_full),
    Fault("Consul back empty, then restored", NOTHING, breaking.consul_empty, recovers_s=60, alone=True),
    Fault("Consul back older, then restored", NOTHING, breaking.consul_older, recovers_s=60, alone=True),
    Fault("garbage in a policy key", NOTHING, breaking.garbage, alone=True),
    Fault("Prometheus killed", NOTHING, breaking.prometheus_killed),
    Fault("Prometheus frozen", NOTHING, breaking.prometheus_frozen),
    Fault("Prometheus slowed to a fifth", NOTHING, breaking.prometheus_slow),
    Fault("Jaeger killed", NOTHING, kill(lambda on: on.jaeger)),
    Fault("Jaeger frozen", NOTHING, freeze(lambda on: on.jaeger)),
    Fault("two more instances that come and go", NOTHING, breaking.flapping, lasts_s=15),
    Fault("100 clients that never read", NOTHING, breaking.never_read),
    Fault("10,000 idle connections", NOTHING, breaking.idle),
    Fault("all gates away for 3 s, then 300 calls at once", "all while no gate is there", breaking.herd, fails_s=6,
          lasts_s=1, alone=True),
    Fault("a bad version rolled out", "calls of the bad version", breaking.bad_version, versions=(CANARY,), lasts_s=1,
          recovers_s=30, alone=True),
)  # fmt: skip
