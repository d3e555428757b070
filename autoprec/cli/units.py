"""autoprec units: what the smallest parts with a precision of their own are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import model_options, target_list
from autoprec.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from autoprec.graph.interface import Interface
    from autoprec.precision import Array
    from autoprec.run.task import Subject

_EXAMPLES = 3  # how many nodes are named for a reason


@click.command("units")
@click.argument("model")
@model_options
@click.option("--calib", metavar="DATA", help="Data whose first sample says how large the inputs are.")
@click.option("--recipe", default="default", show_default=True, metavar="NAME|FILE", help="How images are read.")
@click.option("--shapes", multiple=True, metavar="INPUT:SHAPE", help="The shape of an input, as x:1x3x224x224.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: str,
    *,
    as_json: bool,
    backend: str,
    threads: int | None,
    targets: str,
    calib: str | None,
    recipe: str,
    shapes: tuple[str, ...],
    **options: Any,
) -> None:
    """List the units of MODEL: nodes, precisions they can run in, and the reasons where they cannot.

    MODEL is what `autoprec tune` takes: an ONNX file, a module:function, or the folder of a transformers model.
    """
    from autoprec.backends.make import make_backend
    from autoprec.build import parse_shapes
    from autoprec.exporting.models import Example, model_file
    from autoprec.run.settings import Settings
    from autoprec.run.task import prepare_subject, with_shapes_of

    runtime = make_backend(backend, threads, target_list(targets))
    with model_file(model, Example(data=(calib,)), None, write=False) as file:
        calib = str(file.data.get("calib", calib)) if calib is not None else None
        subject = prepare_subject(Settings(model=file.path, **options), runtime, timed=False)
        given = {name: shape.best for name, shape in parse_shapes(shapes).items()}
        feed = _feed(subject.model.interface, given, calib, recipe)
        subject = with_shapes_of(subject, feed, runtime)
        guessed = {} if calib is not None else _guessed(subject.model.interface, given)
        if as_json:
            _print_json(subject, guessed)
        else:
            _print(subject, guessed)


def _feed(
    interface: Interface, given: Mapping[str, tuple[int, ...]], calib: str | None, recipe: str
) -> dict[str, Array]:
    """Return inputs for one run: a sample of the data, or zeros of the shapes that are given or assumed."""
    from autoprec.data.feeds import batch_feed
    from autoprec.data.sources import load_data
    from autoprec.recipes.ranging import load_calibration_recipe
    from autoprec.units.shapes import assumed_feed

    if calib is None:
        return assumed_feed(interface, given)
    return batch_feed(interface, load_data(calib, interface, load_calibration_recipe(recipe)), 1)


def _guessed(interface: Interface, given: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """Return the assumed shape of each input that has free dimensions besides its samples."""
    return {
        spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.shape]
        for spec in interface.inputs
        if spec.name not in given and not all(isinstance(dim, int) for dim in spec.of_sample)
    }


def _print_json(subject: Subject, guessed: Mapping[str, list[int]]) -> None:
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
    assumed = {"assumed_shapes": dict(guessed)} if guessed else {}
    print_json({"units": units, "reasons": dict(subject.partition.reasons), **assumed})


def _print(subject: Subject, guessed: Mapping[str, list[int]]) -> None:
    partition, rows = subject.partition, []
    for unit in partition.units:
        able = [p.value for p, why in sorted(subject.possible[unit.name].items()) if why is None]
        refused = [f"{p}: {why}" for p, why in sorted(subject.possible[unit.name].items()) if why is not None]
        rows.append([unit.name, unit.kind, str(len(unit.nodes)), f"{unit.macs:,}", " ".join(able), "; ".join(refused)])
    print_table(["unit", "kind", "nodes", "MACs", "precisions", "why not"], rows)
    if guessed:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in guessed.items())
        click.echo(f"MACs are counted for {shapes}, where 1 stands for a size that is not known;")
        click.echo("give the sizes by --shapes INPUT:SHAPE, or data by --calib")
    if partition.reasons:
        grouped: dict[str, list[str]] = {}
        for name, reason in partition.reasons.items():
            grouped.setdefault(reason, []).append(name)
        click.echo(f"\nnodes in no unit, by reason ({len(partition.reasons)}; --json names all):")
        rows = [[str(len(names)), reason, _examples(names)] for reason, names in grouped.items()]
        print_table(["nodes", "reason", "such as"], sorted(rows, key=lambda row: -int(row[0])))


def _examples(names: list[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
