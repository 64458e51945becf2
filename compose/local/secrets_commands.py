"""`tekup secrets rotate`."""

from pathlib import Path
from typing import Annotated

import typer

from . import show
from .errors import BadInput
from .layout import Layout
from .progress import reporter
from .rotation import Kind, rotate
from .up import alone

secrets = typer.Typer(no_args_is_help=True, help="The platform's own secrets: Consul's tokens, the gate's keys.")
MEANING = {
    Kind.CONSUL_TOKENS: "every process uses its new token, the old ones are deleted",
    Kind.GATE_KEYS: "gate and instances sign with the new keys; the ones before are still accepted",
    Kind.GOSSIP: "Consul's servers speak under the new key, the old one is gone",
}


@secrets.command("rotate")
def secrets_rotate(
    consul_tokens: Annotated[bool, typer.Option("--consul-tokens", help="Consul's tokens, one per role.")] = False,
    gate_keys: Annotated[bool, typer.Option("--gate-keys", help="The gate's MAC key, and each service's.")] = False,
    gossip: Annotated[bool, typer.Option("--gossip", help="The key Consul's servers speak under.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the history.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the processes, each time.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replace secrets while everything runs; returns when the new ones are in use. No call is lost.

    Ended half-way, run it again: old and new are both good until then, and what is left over is taken away.

    Example: tekup secrets rotate --all --reason "Anna has left"
    """
    chosen = {Kind.CONSUL_TOKENS: consul_tokens, Kind.GATE_KEYS: gate_keys, Kind.GOSSIP: gossip}
    kinds = [kind for kind, wanted in chosen.items() if wanted or everything]
    if not kinds:
        raise BadInput("say what to rotate: --consul-tokens, --gate-keys, --gossip, or --all")
    if not reason.strip():
        raise BadInput('a reason is needed; say why in a few words: --reason "…"')
    layout = Layout(Path.cwd())
    with reporter() as report, alone(layout, report):
        done = rotate(layout, kinds, reason, timeout, report)
    if json:
        show.as_json([one.data() for one in done])
        return
    for one in done:
        typer.echo(f"{one.kind}: {one.count} new after {one.seconds:.1f} s; {MEANING[one.kind]}")
