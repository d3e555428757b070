"""autoprec front: the best trade-offs among the measured plans of a run, what a bound chooses, any of them built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import DropBound, latency_limit, trust_option
from autoprec.cli.screen import Screen, print_json
from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK, UsageError
from autoprec.files.printable import printable

if TYPE_CHECKING:
    from autoprec.front.points import Cost, Point
    from autoprec.front.run_front import RunFront
    from autoprec.study.goal import Goal

from autoprec.cli.text.front import Listing, list_points, missed

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
@click.option(
    "--max-drop", type=DropBound(), metavar="NUMBER", help="Mark what this bound chooses.  [default: the run's]"
)
@click.option(
    "--max-latency",
    "limit",
    callback=latency_limit,
    metavar="SHARE|MS",
    help="Mark the plan of least drop that is as fast as this: a share of FP32's latency such as 0.5, or 5ms.",
)
@click.option(
    "--objective",
    type=click.Choice(["latency", "size"]),
    help="What is least within the bound, and the front of it against the drop.  [default: the run's objective, and "
    "the front of latency, drop and size at once]",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Measure the plans that are predicted to be better, and add them to the run; nothing else is measured.",
)
@click.option("--calib", metavar="DATA", help="For --measure: where the calibration data is now.")
@click.option("--eval", "evaluate", metavar="DATA", help="For --measure: where the evaluation data is now.")
@trust_option
@click.option(
    "--point", callback=_point, metavar="N|best", help="Build this plan: its number, or what a bound chooses."
)
@click.option("-o", "--out", metavar="FOLDER", help="Where --point writes plan.json and model.onnx.")
@click.option("--model", metavar="FILE", help="Where the model is now.  [default: where the run found it]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str,
    *,
    everything: bool,
    max_drop: float | None,
    limit: dict[str, float],
    objective: Cost | None,
    measure: bool,
    calib: str | None,
    evaluate: str | None,
    trust: tuple[str, ...],
    point: int | str | None,
    out: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """List the Pareto front of the plans that RUN measured, and build any of them; nothing is searched again.

    Plans that were not measured, but which the run's models predict to be better, are listed apart.
    """
    _check_question(Question(max_drop=max_drop, limit=limit, objective=objective), point)
    _check_files(point, out, everything)
    _check_measuring(measure, point, calib or evaluate)
    _check_run(run, model, trust)
    from autoprec.front.predicted import asked_goal, predicted_plans
    from autoprec.front.run_front import load_front

    loaded = load_front(run, model, trust=trust)
    goal = asked_goal(loaded, max_drop, objective, **limit)
    if measure and _measure(loaded, goal, {"calib": calib, "eval": evaluate, "trust": trust}, quiet=as_json):
        loaded = load_front(loaded.directory.root, model, trust=trust)
    chosen = loaded.fast_enough(**limit) if limit else loaded.within(max_drop, objective)
    if point is None:
        plans = predicted_plans(loaded, goal)
        listing = Listing(run=loaded, chosen=chosen, objective=objective, predicted=plans, everything=everything)
        code = list_points(listing, as_json)
    elif point != BEST:
        code = _build(loaded, loaded.point(int(point)), str(out), max_drop, as_json)
    elif chosen.point is not None:
        code = _build(loaded, chosen.point, str(out), max_drop, as_json)
    else:
        click.echo(f"autoprec: {missed(chosen, loaded.studied.goal.unit_text)}; nothing was written", err=True)
        code = EXIT_INFEASIBLE
    click.get_current_context().exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a bound is to choose.

    Attributes:
        max_drop: the most drop, None where it is not asked for.
        limit: the most latency, as `autoprec.cli.options.latency_limit` gives it; empty where it is not asked for.
        objective: what is least within the bound, None for the run's.
    """

    max_drop: float | None
    limit: dict[str, float]
    objective: Cost | None

    @property
    def asked(self) -> bool:
        """Whether anything but the run's own question is asked."""
        return self.max_drop is not None or bool(self.limit) or self.objective is not None


def _check_question(question: Question, point: int | str | None) -> None:
    """Refuse bounds and objectives that contradict each other, or would be ignored."""
    if question.max_drop is not None and question.limit:
        raise UsageError("--max-drop and --max-latency are two questions: give one of them")
    if question.limit and question.objective is not None:
        raise UsageError("--max-latency asks for the least drop: leave --objective out")
    if isinstance(point, int) and question.asked:
        raise UsageError("bounds and objectives choose a plan: give them with --point best, or leave them out")


def _check_files(point: int | str | None, out: str | None, everything: bool) -> None:
    """Refuse --out and --all where they would be ignored, and --point without a folder."""
    if point is not None and out is None:
        raise UsageError("--point must come with -o FOLDER, where plan.json and model.onnx are written")
    if point is None and out is not None:
        raise UsageError("-o must come with --point N or --point best, which says what to write")
    if point is not None and everything:
        raise UsageError("--all is for lists: leave it out with --point")


def _check_run(run: str, model: str | None, trust: tuple[str, ...]) -> None:
    """Refuse a run that is not there, or whose model is not followed, before importing what takes a second and more."""
    from autoprec.files.trust import trusted_files
    from autoprec.run.refusals import refuse_far_model, refuse_no_folder

    refuse_no_folder(Path(run))
    if model is None:
        refuse_far_model(Path(run), trusted_files(trust))


def _check_measuring(measure: bool, point: int | str | None, data: str | None) -> None:
    """Refuse data that would be ignored, and measuring where nothing is asked for by a bound."""
    if not measure and data:
        raise UsageError("--calib and --eval are for plans that are measured: give them with --measure")
    if measure and isinstance(point, int):
        raise UsageError("--measure finds plans for a bound: give it with --point best, or leave --point out")


def _measure(run: RunFront, goal: Goal, data: dict[str, Any], *, quiet: bool) -> bool:
    """Measure the plans that the run's models predict to be better; returns whether there were any."""
    from autoprec.front.predicted import measure_predicted, predicted_plans

    plans = predicted_plans(run, goal)
    if not plans:
        click.echo("nothing is predicted to be better than what was measured, so nothing was measured", err=True)
        return False
    screen = Screen(quiet)
    screen.aim(goal)
    try:
        measure_predicted(run, plans, **data, progress=screen)
    finally:
        screen.close()
    return True


def _build(run: RunFront, point: Point, out: str, max_drop: float | None, as_json: bool) -> int:
    target = run.build(point, out, max_drop)
    if as_json:
        print_json(
            {
                "run": str(run.directory.root),
                "plan": str(target.plan),
                "model": str(target.model),
                "reason": run.reason(point),
                "point": point.to_record(),
            }
        )
        return EXIT_OK
    click.echo(printable(f"{run.reason(point)}."))
    if not point.confirmed:
        click.echo("`autoprec tune` with another --max-drop and the same --out confirms the plan that it chooses.")
    click.echo(f"written: {target.plan}, {target.model} ({target.model.stat().st_size:,} bytes)")
    return EXIT_OK
