"""autoprec units: what the smallest parts with a precision of their own are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import model_options, target_list
from autoprec.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from autoprec.run.task import Subject


@click.command("units")
@click.argument("model")
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, *, as_json: bool, backend: str, threads: int | None, targets: str, **options: Any) -> None:
    """List the units of MODEL: nodes, precisions they can run in, and the reasons where they cannot."""
    from autoprec.backends.make import make_backend
    from autoprec.run.settings import Settings
    from autoprec.run.task import prepare_subject

    settings = Settings(model=model, **options)
    subject = prepare_subject(settings, make_backend(backend, threads, target_list(targets)), timed=False)
    if as_json:
        _print_json(subject)
    else:
        _print(subject)


def _print_json(subject: Subject) -> None:
    units = [
        {
            "name": unit.name,
            "kind": unit.kind,
            "key": unit.key,
            "nodes": unit.nodes,
            "inputs": unit.inputs,
            "outputs": unit.outputs,
            "macs": unit.macs,
            "weights": unit.weights,
            "precisions": {p.value: why for p, why in sorted(subject.possible[unit.name].items())},
        }
        | ({"modules": unit.modules} if unit.modules else {})
        for unit in subject.partition.units
    ]
    print_json({"units": units, "reasons": dict(subject.partition.reasons)})


def _print(subject: Subject) -> None:
    partition, rows = subject.partition, []
    for unit in partition.units:
        able = [p.value for p, why in sorted(subject.possible[unit.name].items()) if why is None]
        refused = [f"no {p}: {why}" for p, why in sorted(subject.possible[unit.name].items()) if why is not None]
        rows.append([unit.name, unit.kind, str(len(unit.nodes)), f"{unit.macs:,}", " ".join(able), "; ".join(refused)])
    print_table(["unit", "kind", "nodes", "MACs", "precisions", "why not"], rows)
    if partition.reasons:
        click.echo("\nnodes in no unit:")
        print_table(["node", "reason"], [[name, reason] for name, reason in partition.reasons.items()])
