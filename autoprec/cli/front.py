"""autoprec front: the best trade-offs among the measured plans of a run, what a bound chooses, any of them built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.screen import print_json, print_table
from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK, UsageError

if TYPE_CHECKING:
    from autoprec.pareto import RunFront
    from autoprec.points import Chosen, Objective, Point

BEST = "best"
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


def _latency(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, float]:
    """{"max_ratio": 0.5} of 0.5 or 50%, {"max_ms": 5.0} of 5ms."""
    if text is None:
        return {}
    found = re.fullmatch(rf"{_NUMBER}\s*(%|ms|)", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"must be a share of FP32's latency such as 0.5 or 50%, or 5ms, got {text!r}")
    if found[2] == "ms":
        return {"max_ms": float(found[1])}
    return {"max_ratio": float(found[1]) / (100 if found[2] else 1)}


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
    "--max-latency", "limit", callback=_latency, metavar="SHARE|MS",
    help="Mark the plan of least drop that is as fast as this: a share of FP32's latency such as 0.5, or 5ms.",
)  # fmt: skip
@click.option(
    "--objective", type=click.Choice(["latency", "size"]), default="latency", show_default=True,
    help="What is least within the bound.",
)  # fmt: skip
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
    objective: Objective,
    point: int | str | None,
    out: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """List the Pareto front of the plans that RUN measured, and build any of them; nothing is searched again."""
    from autoprec.pareto import load_front

    _check(max_drop, limit, objective, point, out, everything)
    loaded = load_front(run, model)
    chosen = loaded.fast_enough(**limit) if limit else loaded.within(max_drop, objective)
    if point is None:
        code = _list(loaded, chosen, objective, everything, as_json)
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
    objective: str,
    point: int | str | None,
    out: str | None,
    everything: bool,
) -> None:
    """Refuse options that contradict each other or would be passed over."""
    if max_drop is not None and limit:
        raise UsageError("--max-drop and --max-latency are two questions: give one of them")
    if limit and objective != "latency":
        raise UsageError("--max-latency must go with the latency as the objective: leave --objective out")
    if point is not None and out is None:
        raise UsageError("--point must come with -o FOLDER, where plan.json and model.onnx are written")
    if point is None and out is not None:
        raise UsageError("-o must come with --point N or --point best, which says what to write")
    if point is not None and everything:
        raise UsageError("--all is for lists: leave it out with --point")
    if isinstance(point, int) and (max_drop is not None or limit or objective != "latency"):
        raise UsageError("bounds and objectives choose a plan: give them with --point best, or leave them out")


def _list(run: RunFront, chosen: Chosen, objective: Objective, everything: bool, as_json: bool) -> int:
    front = run.front(objective)
    shown = run.points if everything else front
    if as_json:
        print_json(_record(run, chosen, objective, shown, front))
    else:
        _say(run, chosen, objective, shown, front)
    if chosen.point is None:
        click.echo(f"autoprec: {_missed(chosen)}", err=True)
        return EXIT_INFEASIBLE
    return EXIT_OK


def _record(
    run: RunFront, chosen: Chosen, objective: Objective, shown: tuple[Point, ...], front: tuple[Point, ...]
) -> dict[str, Any]:
    studied = run.studied
    return {
        "run": str(run.directory.root), "model": str(run.model.path), "metric": studied.metric,
        "max_drop": studied.max_drop, "confidence": studied.confidence, "judged": _judged(run),
        "basis": "selection samples", "splits": studied.splits, "objective": objective, "bound": chosen.words,
        "chosen": None if chosen.point is None else chosen.point.trial.number,
        "nearest": None if chosen.nearest is None else chosen.nearest.trial.number,
        "measured": len(run.points), "not_timed": _not_timed(run),
        "answer": None if studied.answer is None else studied.answer.to_record(),
        "points": [{**point.to_record(), "on_front": point in front} for point in shown],
    }  # fmt: skip


def _say(
    run: RunFront, chosen: Chosen, objective: Objective, shown: tuple[Point, ...], front: tuple[Point, ...]
) -> None:
    studied = run.studied
    header = ["plan", "vs FP32", "ms", "drop", "counted", "samples", "bytes", "MACs", f"within {studied.max_drop:g}"]
    header += ["front"] if len(shown) > len(front) else []
    rows = [_row(point, point is chosen.point, front if len(header) > 9 else None) for point in shown]
    if chosen.point is not None and chosen.point not in shown:  # an answer by more rounds may lie beside the front
        rows.append(_row(chosen.point, True, None))
    print_table([*header, "proposed by"], rows)
    click.echo(
        f"\n{len(front)} of {len(run.points)} measured plans are on the front of {objective} against the drop of "
        f"{studied.metric}, judged by {_judged(run)}."
    )
    if chosen.point is not None:
        click.echo(f"* plan {chosen.point.trial.number} is what {chosen.words} chooses.")
    if untimed := _not_timed(run):
        click.echo(f"{untimed} plans were over the bound and not timed, so no bound chooses them by latency.")
    _say_basis(run)


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
    answer, point = run.studied.answer, run.answer
    if answer is None or point is None:
        click.echo("the run did not end, so no plan is its answer.")
        return
    drop = answer.drop
    click.echo(
        f"only plan {point.trial.number}, the run's answer, was measured again: on {drop['samples']} samples that "
        f"chose nothing {run.studied.metric} dropped by about {_signed(drop['estimate'])} ({_signed(drop['low'])} to "
        f"{_signed(drop['high'])}), at {answer.ratio:.3f} of FP32's latency ({answer.latency_ms:.2f} ms)."
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
    click.echo(f"written: {target.plan}, {target.model} ({point.size:,} bytes)")
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
