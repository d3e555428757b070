"""What `autoprec front` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.screen import print_json, print_table, say
from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK
from autoprec.files.computed_by import other_release, release

if TYPE_CHECKING:
    from autoprec.front.points import Chosen, Cost, Point
    from autoprec.front.run_front import RunFront
    from autoprec.study.guide.proposals import PredictedPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is listed of a run.

    Attributes:
        run: the run.
        chosen: what the bound chooses.
        objective: what the front is of beside the drop, None for latency and size at once.
        predicted: plans that were not measured and are predicted to be better.
        everything: whether every measured plan is listed, not only the front.
    """

    run: RunFront
    chosen: Chosen
    objective: Cost | None
    predicted: Sequence[PredictedPlan]
    everything: bool

    @property
    def front(self) -> tuple[Point, ...]:
        """The points on the front."""
        return self.run.front(self.objective)

    @property
    def shown(self) -> tuple[Point, ...]:
        """The points that are listed."""
        return self.run.points if self.everything else self.front


def list_points(listing: Listing, as_json: bool) -> int:
    """Print the measured plans and what the models predict of others; returns the exit code."""
    if as_json:
        print_json(_record(listing))
    else:
        _say(listing)
        _say_predicted(listing)
        _say_basis(listing.run)
    if listing.chosen.point is None:
        click.echo(f"autoprec: {missed(listing.chosen, listing.run.studied.goal.unit_text)}", err=True)
        return EXIT_INFEASIBLE
    return EXIT_OK


def _record(listing: Listing) -> dict[str, Any]:
    run, chosen, objective, front = listing.run, listing.chosen, listing.objective, listing.front
    studied, other = run.studied, _other_release(run)
    return {
        "run": str(run.directory.root),
        "model": str(run.model.path),
        "metric": studied.metric,
        "max_drop": studied.max_drop,
        "confidence": studied.confidence,
        "judged": _judged(run),
        "computed_by": other or f"autoprec {release()}",
        "basis": "selection samples",
        "splits": studied.splits,
        "objective": objective or studied.objective,
        "front_of": ["latency", "drop", "bytes"] if objective is None else [objective, "drop"],
        "bound": chosen.text,
        "chosen": None if chosen.point is None else chosen.point.trial.number,
        "nearest": None if chosen.nearest is None else chosen.nearest.trial.number,
        "measured": len(run.points),
        "not_timed": _not_timed(run),
        "answer": None if studied.answer is None else studied.answer.to_record(studied.unit),
        "points": [{**point.to_record(), "on_front": point in front} for point in listing.shown],
        "predicted": [_predicted_record(plan) for plan in listing.predicted],
    }


def _say(listing: Listing) -> None:
    run, chosen, front, shown = listing.run, listing.chosen, listing.front, listing.shown
    studied = run.studied
    header = [
        "trial",
        f"vs {studied.goal.unit_text}",
        "ms",
        "drop",
        "counted",
        "samples",
        "bytes",
        "MACs",
        f"within {studied.max_drop:g}",
    ]
    with_front = len(shown) > len(front)
    header += ["front"] if with_front else []
    rows = [_row(point, point is chosen.point, front if with_front else None) for point in shown]
    if chosen.point is not None and chosen.point not in shown:  # an answer by more rounds may lie beside the front
        rows.append(_row(chosen.point, True, None))
    print_table([*header, "proposed by"], rows, spare=("bytes", "MACs", "samples", "counted"))
    objective = "latency and size" if listing.objective is None else listing.objective
    say(
        f"\n{len(front)} of {len(run.points)} measured plans are on the Pareto front of {objective} and the drop of "
        f"{studied.metric}, judged by {_judged(run)}."
    )
    if other := _other_release(run):
        say(f"these figures were computed by {other}; this is autoprec {release()}.")
    if chosen.point is not None:
        say(f"* trial {chosen.point.trial.number} is the choice for {chosen.text}.")
    if untimed := _not_timed(run):
        say(f"{untimed} plans over the bound were not timed, so they are not compared by latency.")


def _other_release(run: RunFront) -> str | None:
    from autoprec.run.study_description import SCHEMA

    return other_release(run.directory.studied, SCHEMA)


def _predicted_record(plan: PredictedPlan) -> dict[str, Any]:
    """A prediction as JSON: each figure with its standard deviation."""
    figures = {"latency_ratio": plan.latency, "drop": plan.drop, "bytes": plan.size}
    return {
        **{
            name: None if figure is None else {"estimate": figure.mean, "deviation": figure.deviation}
            for name, figure in figures.items()
        },
        "likely": plan.likely,
        "proposed_by": plan.origin,
        "basis": "predicted, not measured",
        "plan": {unit: precision.value for unit, precision in plan.plan.items()},
    }


def _say_predicted(listing: Listing) -> None:
    """What the models expect of plans that nobody measured."""
    if not listing.predicted:
        why = "" if listing.run.studied.prior else ": an older version of autoprec made this run and stored no models"
        why = (
            why if any(listing.run.noises.values()) else ": without sensitivities in the run, nothing can be predicted"
        )
        say(f"among the plans not measured, none is predicted to be better{why}.")
        return
    say("\npredicted, not measured; plus or minus one standard deviation:")
    rows = [
        [
            f"{plan.latency.mean:.3f} +- {plan.latency.deviation:.3f}",
            f"{plan.drop.mean:+.4f} +- {plan.drop.deviation:.4f}",
            "-" if plan.size is None else f"{plan.size.mean:,.0f} +- {plan.size.deviation:,.0f}",
            f"{plan.likely:.0%}",
            plan.origin,
        ]
        for plan in listing.predicted
    ]
    print_table([f"vs {listing.run.studied.goal.unit_text}", "drop", "bytes", "meets the bound", "proposed by"], rows)
    say("add --measure to the same command to measure them and add them to the run.\n")


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
    """How far the figures can be relied on."""
    say(
        f"all figures are from the search, on its {run.studied.samples} selection samples. They are not confirmed on "
        f"held-out samples, and the best of many plans tends to look better than it is."
    )
    busy = run.studied.objective == "throughput"
    if busy:
        say("times are for each of several batches in flight: the inverse of the throughput, not a latency.")
    answer, point = run.studied.answer, run.answer
    if answer is None or point is None:
        say("the run has not ended, so it has no answer yet.")
        return
    drop = answer.drop
    unit = run.studied.goal.unit_text
    latency = f"at {answer.ratio:.3f} of {unit}'s latency ({answer.latency_ms:.2f} ms)"
    speed = f"at {1 / answer.ratio:.3f} times {unit}'s throughput" if busy else latency
    say(
        f"only the run's answer, trial {point.trial.number}, was measured again: its drop of {run.studied.metric} on "
        f"{drop.samples} held-out samples is {_signed(drop.estimate)} ({_signed(drop.low)} to {_signed(drop.high)}), "
        f"{speed}."
    )


def missed(chosen: Chosen, unit: str = "FP32") -> str:
    """Why no measured plan is what was asked for, and which one comes nearest."""
    if chosen.nearest is None:
        return f"no measured plan has {chosen.text}: the outputs of all of them hold NaN or infinity"
    near = chosen.nearest
    return (
        f"no measured plan has {chosen.text}; the nearest is trial {near.trial.number}: a drop of {near.drop:.4g} at "
        f"{near.trial.measured.latency_ratio:.3f} of {unit}'s latency, {near.size:,} bytes"
    )


def _judged(run: RunFront) -> str:
    confidence = run.studied.confidence
    return "the estimate" if confidence is None else f"the upper end of its {100 * confidence:g} % confidence interval"


def _not_timed(run: RunFront) -> int:
    return sum(not point.trial.measured.timed for point in run.points)


def _signed(value: float | None) -> str:
    return "infinity" if value is None else f"{value:+.4f}"
