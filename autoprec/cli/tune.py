"""autoprec tune: model in, measured precision plan and lowered model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli import elapsed_s
from autoprec.cli.groups import GroupedCommand
from autoprec.cli.last_moment import last_moment
from autoprec.cli.options import (
    DropBound,
    ObjectiveChoice,
    PointsBound,
    data_options,
    latency_limit,
    model_options,
    place_options,
    target_list,
)
from autoprec.cli.report import write_at_the_end
from autoprec.cli.screen import Screen, print_json
from autoprec.cli.text.tune import introduce, say_plan, say_result
from autoprec.cli.tracks import checked, figures_of_answer, tracked
from autoprec.errors import EXIT_INFEASIBLE, EXIT_NOT_HONOURED, EXIT_OK
from autoprec.files.functions import check_data_names

if TYPE_CHECKING:
    from autoprec.api import SearchResult
    from autoprec.exporting.models import Example
    from autoprec.run.settings import Settings
    from autoprec.run.task import Task

_GROUPS = {
    "Data and metric": ("calib", "evaluate", "metric", "direction", "decode", "labels", "recipe"),
    "Goal": ("objective", "situations", "max_drop", "limit", "confidence"),
    "Precisions and runtime": ("space", "pins", "backend", "targets", "threads", "batch"),
    "Search": ("trials", "timeout_s", "repairs", "sampler", "seed", "workers", "storage", "device", "cores"),
    "Output": ("out", "reported", "track", "dry_run", "as_json", "quiet", "verbose"),
}


@click.command("tune", cls=GroupedCommand, groups=_GROUPS)
@click.argument("model")
@data_options
@click.option(
    "--objective",
    type=ObjectiveChoice(["latency", "throughput", "size"]),
    help="What is best within the bounds: the least time of one batch; the most samples per second with several "
    "batches in flight (on a CPU one single-threaded run for each of --threads, on a GPU two streams; the inverse of "
    "the latency where that is modelled); or the fewest bytes of the engine (ort-cpu: of the lowered model), within "
    "half a percent the faster. With --situation the one that counts may stand behind it: latency:decode.  "
    "[default: latency]",
)
@click.option(
    "--situation",
    "situations",
    multiple=True,
    metavar="NAME:AXIS=N,...",
    help="Time plans with these lengths of the axes that the model leaves open, such as "
    "decode:batch=1,length=1,past=128; may be repeated. The first one counts in the search.",
)
@click.option(
    "--max-drop",
    type=DropBound(),
    metavar="NUMBER|%|pt",
    help="The most the metric may get worse than FP32's, such as 0.005; 0.5% and 0.5pt are percentage points.  "
    "[default: 0.01; none with --max-latency alone]",
)
@click.option(
    "--max-latency",
    "limit",
    callback=latency_limit,
    metavar="SHARE|MS",
    help="Find the most accurate plan that is as fast as this: a share of FP32's latency such as 0.5, or 5ms.",
)
@click.option(
    "--confidence",
    type=float,
    metavar="SHARE",
    help="Accept only plans whose interval of the drop lies within the bound, such as 0.95.  [default: by estimate]",
)
@click.option("--task", metavar="NAME", help="What a transformers model is for.  [default: as its config.json says]")
@click.option("--length", type=int, default=128, show_default=True, help="The most tokens of a sample of such a model.")
@model_options
@click.option("--trials", type=click.IntRange(1), default=40, show_default=True, help="The most plans to measure.")
@click.option(
    "--sampler",
    type=click.Choice(["guided", "tpe", "nsga2", "gp", "random", "grid"]),
    default="guided",
    show_default=True,
    help="What proposes plans; all but guided are Optuna's, to compare with.",
)
@click.option(
    "--repairs",
    default="none",
    show_default=True,
    metavar="none|auto|NAME,...",
    help="Exact changes of the model that may make INT8 better, each kept where that is measured: equalise, smooth, "
    "split; auto tries all.",
)
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Time for the whole run.  [default: none]")
@click.option(
    "--out", metavar="FOLDER", help="Run directory; a stopped run goes on from it.  [default: autoprec-runs/MODEL]"
)
@place_options
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Worker processes beside this one, each on the next GPU, or on cores of its own.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--report/--no-report",
    "reported",
    default=True,
    envvar="AUTOPREC_REPORT",
    show_envvar=True,
    help="Write report.html into the run directory at the end.  [default: report]",
)
@click.option(
    "--track",
    multiple=True,
    callback=checked,
    metavar="KIND:WHERE",
    help="Send every measured plan there too: tensorboard:FOLDER, mlflow:URI, wandb:offline or wandb:online; may be "
    "repeated.",
)
def command(
    *,
    out: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    storage: str | None,
    device: int | None,
    cores: str | None,
    workers: int,
    reported: bool,
    track: tuple[str, ...],
    **options: Any,
) -> None:
    """Find the fastest precision plan for MODEL whose metric drops by at most --max-drop.

    MODEL is an ONNX file; module:function, a function that returns a torch module, or the module and its example
    inputs; or the folder of a transformers model, with a text a line (.txt, .tsv with labels) or images as data.

    With --objective it is the one of highest throughput or the smallest, with --max-latency the most accurate.
    """
    check_data_names(options["calib"], options["evaluate"])  # before importing, which takes seconds
    settings, example = _settings(out, **options)
    from autoprec.cli.local_workers import pinned, worker_processes
    from autoprec.exporting.models import model_file

    backend, targets, threads = options["backend"], options["targets"], options["threads"]
    helpers = pinned(backend, targets, threads=threads, device=device, cores=cores, workers=workers)  # before it loads
    _check_storage(storage)
    with model_file(settings.model, example, out, write=not dry_run) as file:
        ready = _task(file.of(settings), backend, threads, target_list(targets))
        folder = _folder(file.folder or out, ready)
        if dry_run:
            say_plan(ready, folder, as_json)
            return
    from autoprec.api import run

    screen = _screen(ready, quiet)
    introduce(ready, quiet or as_json)
    with last_moment(ready.settings.timeout_s, elapsed_s()):
        try:
            with worker_processes(helpers, folder, storage, screen.note) as team, tracked(track, ready, screen) as told:
                result = run(ready, folder, told, elapsed_s=elapsed_s(), storage=storage, claimed=team.start)
                told.answer(figures_of_answer(result))
        finally:
            screen.close()
        _end(result, folder, as_json, reported)


def _screen(task: Task, quiet: bool) -> Screen:
    """What shows how far the run is, and plans by what they are compared by."""
    from autoprec.run.stages.reference import clock_unit
    from autoprec.study.goal import Goal

    screen = Screen(quiet)
    screen.aim(Goal(task.settings.aim, unit=clock_unit(task)))
    return screen


def _end(result: SearchResult, folder: Path, as_json: bool, reported: bool) -> None:
    """Write the answer and its report, say it, and end with the exit code that it has."""
    result.save()
    report = write_at_the_end(folder, result.tuned.task.settings.timeout_s) if reported else None
    if as_json:
        print_json({**result.summary, "directory": str(folder)})
    else:
        say_result(result, folder, report)
    code = EXIT_OK if result.feasible else EXIT_INFEASIBLE
    click.get_current_context().exit(EXIT_NOT_HONOURED if result.tuned.verification.refused else code)


def _check_storage(storage: str | None) -> None:
    """Open the place where the study is to be kept, if there is one, so that a wrong URL is told first."""
    if storage is not None:
        from autoprec.study.ledger.storages import open_storage, place_of

        open_storage(place_of(storage))


def _folder(out: str | Path | None, task: Task) -> Path:
    """The run directory, in which nothing is that must not be written over."""
    from autoprec.run.directory import RunDirectory
    from autoprec.run.owner import default_out, refuse_foreign, run_folder

    folder = run_folder(out, task.subject.model)
    refuse_foreign(RunDirectory(folder), task.subject.model, task.settings)
    if out is None and folder != (usual := default_out(task.settings.model)):
        click.echo(f"note: {usual} belongs to another model of that name, so the run directory is {folder}", err=True)
    return folder


def _settings(
    out: str | None,
    *,
    backend: str,
    targets: str,
    limit: dict[str, float],
    max_drop: float | None,
    objective: str | None,
    threads: int | None,
    task: str | None,
    length: int,
    **options: Any,
) -> tuple[Settings, Example]:
    """The settings that the options describe, checked as far as the model does not matter, and how it is exported."""
    from autoprec.backends.make import refuse_backend
    from autoprec.run.check_options import check_options
    from autoprec.run.settings import Settings, drop_bound, objective_and_situation

    refuse_backend(backend, target_list(targets))
    objective, counted = objective_and_situation(objective)
    settings = Settings(
        objective=objective,
        counted=counted,
        max_drop=drop_bound(max_drop, objective, bool(limit)),
        max_latency=limit.get("max_ratio"),
        max_latency_ms=limit.get("max_ms"),
        **options,
    )
    check_options(settings, out)
    from autoprec.exporting.models import Example

    return settings, Example(data=(settings.calib, settings.evaluate), task=task, length=length)


def _task(settings: Settings, backend: str, threads: int | None, targets: tuple[str, ...]) -> Task:
    """The task that the settings describe, with everything loaded and checked."""
    from autoprec.backends.make import checked_clock, make_backend
    from autoprec.metrics.bounds import refuse_points
    from autoprec.run.early_trial import try_early
    from autoprec.run.task import prepare_task

    task = prepare_task(settings, make_backend(backend, threads, targets))
    try_early(task)
    if isinstance(settings.max_drop, PointsBound):
        refuse_points(task.metric)
    checked_clock(task.backend)  # a dry run refuses a GPU without figures too
    return task
