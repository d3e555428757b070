"""autoprec front: the best trade-offs among the measured plans of a run, what a bound chooses, any of them built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import latency_limit
from autoprec.cli.screen import Screen, print_json, print_table
from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK, UsageError

if TYPE_CHECKING:
    from autoprec.pareto import RunFront
    from autoprec.points import Chosen, Cost, Point
    from autoprec.study.goals import Goal
    from autoprec.study.told import Promise

BEST = "best"


def _point(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | str | None:
    """A trial number, "best", or None."""
    if text is None or text.strip().lower() == BEST:
        return None if text is None else BEST
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise click.BadParameter(f"must be the number of a measured plan, or best, got {text!r}")
    return int(text)


@click.command("front")
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="List every measured plan, not only the front.")
@click.option("--max-drop", type=float, metavar="NUMBER", help="Mark what this bound chooses.  [default: the run's]")
@click.option(
    "--max-latency", "limit", callback=latency_limit, metavar="SHARE|MS",
    help="Mark the plan of least drop that is as fast as this: a share of FP32's latency such as 0.5, or 5ms.",
)  # fmt: skip
@click.option(
    "--objective", type=click.Choice(["latency", "size"]),
    help="What is least within the bound, and the front of it against the drop.  [default: the run's objective, and "
    "the front of latency, drop and size at once]",
)  # fmt: skip
@click.option(
    "--measure", is_flag=True,
    help="Measure the plans that are predicted to be better, and add them to the run; nothing else is measured.",
)  # fmt: skip
@click.option("--calib", metavar="DATA", help="For --measure: where the calibration data is now.")
@click.option("--eval", "evaluate", metavar="DATA", help="For --measure: where the evaluation data is now.")
@click.option(
    "--point", callback=_point, metavar="N|best", help="Build this plan: its number, or what a bound chooses."
)
@click.option("-o", "--out", metavar="FOLDER", help="Where --point writes plan.json and model.onnx.")
@click.option("--model", metavar="FILE", help="Where the model is now.  [default: where the run found it]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str,
    everything: bool,
    max_drop: float | None,
    limit: dict[str, float],
    objective: Cost | None,
    measure: bool,
    calib: str | None,
    evaluate: str | None,
    point: int | str | None,
    out: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """List the Pareto front of the plans that RUN measured, and build any of them; nothing is searched again.

    Plans that were not measured, but which the run's models predict to be better, are listed apart.
    """
    from autoprec.pareto import load_front
    from autoprec.promised import asked_goal, promises_of

    _check(max_drop, limit, objective, point, out, everything)
    if not measure and (calib or evaluate):
        raise UsageError("--calib and --eval are for plans that are measured: give them with --measure")
    if measure and isinstance(point, int):
        raise UsageError("--measure finds plans for a bound: give it with --point best, or leave --point out")
    loaded = load_front(run, model)
    if measure:
        loaded = _measured(loaded, asked_goal(loaded, max_drop, objective, **limit), calib, evaluate, model, as_json)
    chosen = loaded.fast_enough(**limit) if limit else loaded.within(max_drop, objective)
    if point is None:
        promises = promises_of(loaded, asked_goal(loaded, max_drop, objective, **limit))
        code = _list(loaded, chosen, objective, promises, everything, as_json)
    elif point != BEST:
        code = _build(loaded, loaded.point(int(point)), str(out), max_drop, as_json)
    elif chosen.point is not None:
        code = _build(loaded, chosen.point, str(out), max_drop, as_json)
    else:
        click.echo(f"autoprec: {_missed(chosen)}; nothing was written", err=True)
        code = EXIT_INFEASIBLE
    click.get_current_context().exit(code)


def _check(
    max_drop: float | None,
    limit: dict[str, float],
    objective: str | None,
    point: int | str | None,
    out: str | None,
    everything: bool,
) -> None:
    """Refuse options that contradict each other or would be passed over."""
    if max_drop is not None and limit:
        raise UsageError("--max-drop and --max-latency are two questions: give one of them")
    if limit and objective is not None:
        raise UsageError("--max-latency asks for the least drop: leave --objective out")
    if point is not None and out is None:
        raise UsageError("--point must come with -o FOLDER, where plan.json and model.onnx are written")
    if point is None and out is not None:
        raise UsageError("-o must come with --point N or --point best, which says what to write")
    if point is not None and everything:
        raise UsageError("--all is for lists: leave it out with --point")
    if isinstance(point, int) and (max_drop is not None or limit or objective is not None):
        raise UsageError("bounds and objectives choose a plan: give them with --point best, or leave them out")


def _measured(
    run: RunFront, goal: Goal, calib: str | None, evaluate: str | None, model: str | None, quiet: bool
) -> RunFront:
    """The run with what its models promised measured."""
    from autoprec.pareto import load_front
    from autoprec.promised import measure_promises, promises_of

    promises = promises_of(run, goal)
    if not promises:
        click.echo("nothing is predicted to be better than what was measured, so nothing was measured", err=True)
        return run
    screen = Screen(quiet)
    screen.aim(goal)
    try:
        measure_promises(run, promises, calib=calib, eval=evaluate, progress=screen)
    finally:
        screen.close()
    return load_front(run.directory.root, model)


def _list(
    run: RunFront, chosen: Chosen, objective: Cost | None, promises: list[Promise], everything: bool, as_json: bool
) -> int:
    front = run.front(objective)
    shown = run.points if everything else front
    if as_json:
        print_json({**_record(run, chosen, objective, shown, front), "predicted": [_foretold(p) for p in promises]})
    else:
        _say(run, chosen, objective, shown, front)
        _say_promises(run, promises)
        _say_basis(run)
    if chosen.point is None:
        click.echo(f"autoprec: {_missed(chosen)}", err=True)
        return EXIT_INFEASIBLE
    return EXIT_OK


def _record(
    run: RunFront, chosen: Chosen, objective: Cost | None, shown: tuple[Point, ...], front: tuple[Point, ...]
) -> dict[str, Any]:
    studied = run.studied
    return {
        "run": str(run.directory.root), "model": str(run.model.path), "metric": studied.metric,
        "max_drop": studied.max_drop, "confidence": studied.confidence, "judged": _judged(run),
        "basis": "selection samples", "splits": studied.splits, "objective": objective or studied.objective,
        "front_of": ["latency", "drop", "bytes"] if objective is None else [objective, "drop"], "bound": chosen.words,
        "chosen": None if chosen.point is None else chosen.point.trial.number,
        "nearest": None if chosen.nearest is None else chosen.nearest.trial.number,
        "measured": len(run.points), "not_timed": _not_timed(run),
        "answer": None if studied.answer is None else studied.answer.to_record(),
        "points": [{**point.to_record(), "on_front": point in front} for point in shown],
    }  # fmt: skip


def _say(
    run: RunFront, chosen: Chosen, objective: Cost | None, shown: tuple[Point, ...], front: tuple[Point, ...]
) -> None:
    studied = run.studied
    header = ["plan", "vs FP32", "ms", "drop", "counted", "samples", "bytes", "MACs", f"within {studied.max_drop:g}"]
    header += ["front"] if len(shown) > len(front) else []
    rows = [_row(point, point is chosen.point, front if len(header) > 9 else None) for point in shown]
    if chosen.point is not None and chosen.point not in shown:  # an answer by more rounds may lie beside the front
        rows.append(_row(chosen.point, True, None))
    print_table([*header, "proposed by"], rows)
    click.echo(
        f"\n{len(front)} of {len(run.points)} measured plans are on the front of {_front_words(objective)} against "
        f"the drop of {studied.metric}, judged by {_judged(run)}."
    )
    if chosen.point is not None:
        click.echo(f"* plan {chosen.point.trial.number} is what {chosen.words} chooses.")
    if untimed := _not_timed(run):
        click.echo(f"{untimed} plans were over the bound and not timed, so no bound chooses them by latency.")


def _front_words(objective: Cost | None) -> str:
    return "latency and size" if objective is None else objective


def _foretold(promise: Promise) -> dict[str, Any]:
    """A prediction as JSON: each figure with its standard deviation."""
    pairs = {"latency_ratio": promise.latency, "drop": promise.drop, "bytes": promise.size}
    return {
        **{name: None if pair is None else {"estimate": pair[0], "deviation": pair[1]} for name, pair in pairs.items()},
        "likely": promise.likely, "proposed_by": promise.origin, "basis": "predicted, not measured",
        "plan": {unit: precision.value for unit, precision in promise.plan.items()},
    }  # fmt: skip


def _say_promises(run: RunFront, promises: list[Promise]) -> None:
    """What the models expect of plans that nobody measured."""
    if not promises:
        why = "" if run.studied.prior else ", since an older autoprec left no models"
        click.echo(f"no plan that was not measured is predicted to be better{why}.")
        return
    click.echo("\npredicted, not measured; plus or minus one standard deviation:")
    rows = [
        [f"{p.latency[0]:.3f} +- {p.latency[1]:.3f}", f"{p.drop[0]:+.4f} +- {p.drop[1]:.4f}",
         "-" if p.size is None else f"{p.size[0]:,.0f} +- {p.size[1]:,.0f}", f"{p.likely:.0%}", p.origin]
        for p in promises
    ]  # fmt: skip
    print_table(["vs FP32", "drop", "bytes", "meets the bound", "proposed by"], rows)
    click.echo("the same command with --measure measures them and adds them to the run.\n")


def _row(point: Point, marked: bool, front: tuple[Point, ...] | None) -> list[str]:
    trial, measured = point.trial, point.trial.measured
    row = [
        f"{trial.number}{' *' if marked else ''}",
        f"{measured.latency_ratio:.3f}" if measured.timed else "not timed",
        "-" if point.latency_ms is None else f"{point.latency_ms:.2f}",
        f"{point.drop:+.4f}",
        f"{measured.drop:+.4f}",
        str(point.samples),
        f"{point.size:,}",
        " ".join(f"{share:.0%} {name}" for name, share in point.mac_share.items()),
        "yes" if trial.feasible else "no",
    ]
    row += [] if front is None else ["yes" if point in front else "no"]
    return [*row, f"{trial.origin} (the run's answer)" if point.confirmed else trial.origin]


def _say_basis(run: RunFront) -> None:
    """What the figures are worth."""
    click.echo(
        f"all figures are of the {run.studied.samples} selection samples and the search's own rounds: they were not "
        f"confirmed on fresh ones, and the best of many looks better than it is."
    )
    busy = run.studied.objective == "throughput"
    if busy:
        click.echo("times are of one batch of several in flight: the inverse of the throughput, not latencies.")
    answer, point = run.studied.answer, run.answer
    if answer is None or point is None:
        click.echo("the run did not end, so no plan is its answer.")
        return
    drop = answer.drop
    latency = f"at {answer.ratio:.3f} of FP32's latency ({answer.latency_ms:.2f} ms)"
    speed = f"at {1 / answer.ratio:.3f} times FP32's throughput" if busy else latency
    click.echo(
        f"only plan {point.trial.number}, the run's answer, was measured again: on {drop['samples']} samples that "
        f"chose nothing {run.studied.metric} dropped by about {_signed(drop['estimate'])} ({_signed(drop['low'])} to "
        f"{_signed(drop['high'])}), {speed}."
    )


def _build(run: RunFront, point: Point, out: str, max_drop: float | None, as_json: bool) -> int:
    target = run.build(point, out, max_drop)
    if as_json:
        print_json({
            "run": str(run.directory.root), "plan": str(target.plan), "model": str(target.model),
            "reason": run.reason(point), "point": point.to_record(),
        })  # fmt: skip
        return EXIT_OK
    click.echo(f"{run.reason(point)}.")
    if not point.confirmed:
        click.echo("`autoprec tune` with another --max-drop and the same --out confirms the plan that it chooses.")
    click.echo(f"written: {target.plan}, {target.model} ({target.model.stat().st_size:,} bytes)")
    return EXIT_OK


def _missed(chosen: Chosen) -> str:
    if chosen.nearest is None:
        return f"no measured plan has {chosen.words}: the outputs of every measured plan are worthless"
    near = chosen.nearest
    return (
        f"no measured plan has {chosen.words}; the nearest is plan {near.trial.number}: a drop of {near.drop:.4g} at "
        f"{near.trial.measured.latency_ratio:.3f} of FP32's latency, {near.size:,} bytes"
    )


def _judged(run: RunFront) -> str:
    confidence = run.studied.confidence
    return "the estimate" if confidence is None else f"the upper end of its {100 * confidence:g} % interval"


def _not_timed(run: RunFront) -> int:
    return sum(not point.trial.measured.timed for point in run.points)


def _signed(value: float | None) -> str:
    return "infinity" if value is None else f"{value:+.4f}"
