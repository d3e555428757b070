"""autoprec profile: the sensitivity of every unit in every precision of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import data_options, model_options, target_list
from autoprec.cli.screen import Screen, print_json, print_table

if TYPE_CHECKING:
    from autoprec.precision import Precision
    from autoprec.sensitivity.table import Sensitivities, Sensitivity


@click.command("profile")
@click.argument("model")
@data_options
@model_options
@click.option(
    "--out", metavar="FOLDER", help="Run directory; a stopped run goes on from it.  [default: autoprec-runs/MODEL]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    *, out: str | None, as_json: bool, quiet: bool, backend: str, threads: int | None, targets: str, **options: Any
) -> None:
    """Measure how much the outputs of MODEL change when one unit at a time runs in a lower precision.

    MODEL is what `autoprec tune` takes: an ONNX file, a module:function, or the folder of a transformers model.
    """
    from autoprec.run.check_options import check_options
    from autoprec.run.settings import Settings

    settings = Settings(**options)
    check_options(settings)  # before importing what takes a second
    from autoprec.backends.make import make_backend
    from autoprec.exporting.models import Example, model_file
    from autoprec.run.early_trial import try_early
    from autoprec.run.task import prepare_task

    with model_file(settings.model, Example(data=(settings.calib, settings.evaluate)), out) as file:
        settings = file.of(settings)
        task = prepare_task(settings, make_backend(backend, threads, target_list(targets)), timed=False)
    try_early(task)
    from autoprec.run.context import prepare_run
    from autoprec.run.directory import RunDirectory
    from autoprec.run.owner import claimed_run, run_folder
    from autoprec.run.stages.halves import deal_halves
    from autoprec.run.stages.ranges import find_ranges
    from autoprec.run.stages.sensitivity import measure_sensitivities

    directory = RunDirectory(run_folder(file.folder or out, task.subject.model))
    screen = Screen(quiet)
    try:
        with claimed_run(directory, task.subject.model, settings):
            run = deal_halves(prepare_run(task, directory, screen))
            sensitivities = measure_sensitivities(run, find_ranges(run))
    finally:
        screen.close()
    if as_json:
        _print_json(sensitivities)
    else:
        _print(sensitivities, task.metric.name)
        click.echo(f"Written: {directory.profile}")


def _noisiest_first(sensitivities: Sensitivities) -> list[tuple[tuple[str, Precision], Sensitivity]]:
    return sorted(sensitivities.entries.items(), key=lambda item: -item[1].noise)


def _print_json(sensitivities: Sensitivities) -> None:
    rows = [
        {"unit": unit, "precision": p.value, "noise": e.noise, "kl": e.kl, "drop": e.drop}
        for (unit, p), e in _noisiest_first(sensitivities)
    ]
    record = {
        "entries": rows,
        "direction": "higher is worse",
        "passes_per_entry": sensitivities.passes_per_entry,
        "samples": sensitivities.samples,
        "fingerprint": sensitivities.fingerprint,
    }
    print_json(record)


def _print(sensitivities: Sensitivities, metric: str) -> None:
    print_table(
        ["unit", "precision", "noise/signal", "KL", f"{metric} drop"],
        [
            [unit, p.value, f"{e.noise:.3g}", "-" if e.kl is None else f"{e.kl:.3g}", f"{e.drop:+.4f}"]
            for (unit, p), e in _noisiest_first(sensitivities)
        ],
    )
    click.echo(
        f"\n{len(sensitivities.entries)} sensitivities on {sensitivities.samples} samples, higher is worse; each cost "
        f"{sensitivities.passes_per_entry:.2f} passes over these samples."
    )
