"""The measured plans of a run directory: which are on the front, what a new bound chooses, and any of them built."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, scheme_named
from autoprec.errors import ModelError, RunDirectoryError, UsageError
from autoprec.front.pareto import front, least_within, nearest
from autoprec.front.points import Chosen, Cost, Point
from autoprec.graph.model import Model, check_model, load_model, save_model, to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.plan import Choice, Plan
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.run.directory import RunDirectory
from autoprec.run.study_description import read_study_description
from autoprec.run.unit_reasons import searched_reason
from autoprec.sensitivity.table import load_sensitivities
from autoprec.study.ledger.reading import stored_trials
from autoprec.study.trial import Trial
from autoprec.units.find import find_units
from autoprec.units.shares import mac_share


class RunFront:
    """The measured plans of a run directory; nothing in it is changed.

    Args:
        root: the run directory.
        model: where the model is now; by default where the run found it.
        backend: the run's backend, where its scheme is not one of autoprec's.

    Raises:
        RunDirectoryError: a file is missing, damaged, or of another study.
        ModelError: the model is missing or has changed.
    """

    def __init__(self, root: str | Path, model: str | Path | None = None, backend: Backend | None = None) -> None:
        self.directory = RunDirectory(Path(root))
        if not self.directory.root.is_dir():
            raise RunDirectoryError(
                f"a run must be a folder that `autoprec tune` made, but {root} is {_what(self.directory.root)}"
            )
        self.studied = read_study_description(self.directory.studied)
        trials = stored_trials(self.directory.study, self.studied.study, self.studied.choices, self.studied.goal)
        if not trials:
            raise RunDirectoryError(
                f"no plan was measured in {root} yet; run `autoprec tune` with the same options and --out {root}"
            )
        self.model = self._model(Path(self.studied.model if model is None else model))
        self.partition = find_units(self.model.graph)
        if {unit.name: unit.key for unit in self.partition.units} != {n: u.key for n, u in self.studied.units.items()}:
            raise RunDirectoryError(
                f"the units in {root} are not those that this autoprec finds in the model; run `autoprec tune` again"
            )
        self._lowerer = Lowerer(self.model, self.partition, self._scheme(backend), self.studied.carrier)
        self.ranges = self._stored_ranges()
        self.points = tuple(self._point(trial) for trial in trials)

    @property
    def answer(self) -> Point | None:
        """The plan that the run chose, None where it did not end."""
        return next((point for point in self.points if point.confirmed), None)

    @property
    def fp32_ms(self) -> float | None:
        """FP32's latency in the run's last rounds, None where it did not end."""
        return None if self.studied.answer is None else self.studied.answer.fp32_ms

    def front(self, objective: Cost | None = "latency") -> tuple[Point, ...]:
        """The plans that no other beats in both the objective and the drop, cheapest first.

        Args:
            objective: latency or size; None for the plans that no other beats in latency, drop and size at once,
                fastest first.
        """
        able = self._able(objective)
        if objective is None:
            joint = front([point.costs for point in able])
            return tuple(sorted((able[location] for location in joint), key=lambda p: (p.costs, p.trial.number)))
        places = front([(point.cost(objective), point.drop) for point in able])
        return tuple(sorted((able[location] for location in places), key=lambda p: (p.cost(objective), p.trial.number)))

    def point(self, number: int) -> Point:
        """The measured plan of that trial number.

        Raises:
            UsageError: there is none.
        """
        found = next((point for point in self.points if point.trial.number == number), None)
        if found is None:
            numbers = ", ".join(str(point.trial.number) for point in self.points)
            raise UsageError(f"a point must be the number of a measured plan, one of {numbers}; got {number}")
        return found

    def within(self, max_drop: float | None = None, objective: Cost | None = None) -> Chosen:
        """The plan of least latency or size whose drop is within the bound, by default the run's.

        Under the run's own bound and objective it is the run's answer, which was chosen by more rounds.

        Raises:
            UsageError: the bound is below 0.
        """
        bound = self.studied.max_drop if max_drop is None else max_drop
        if not bound >= 0:
            raise UsageError(f"--max-drop must be 0 or more, got {bound:g}; FP32 itself has drop 0")
        goal, answer = self.studied.goal, self.answer
        own = "size" if goal.objective == "size" else "latency"
        if max_drop is None and objective is None and math.isfinite(goal.max_latency):
            return self._by_goal()
        text = f"a drop of at most {bound:g}"
        same = bound == goal.max_drop and objective in (None, own) and goal.objective != "accuracy"
        if answer is not None and same and answer.trial.feasible:
            return Chosen(answer, answer, text)
        objective = objective or ("size" if own == "size" else "latency")
        return _least(self._able(objective), lambda p: p.cost(objective), lambda p: p.drop, bound, text)

    def fast_enough(self, max_ratio: float | None = None, max_ms: float | None = None) -> Chosen:
        """The plan of least drop that is fast enough.

        Args:
            max_ratio: the most latency, as a share of FP32's.
            max_ms: the most latency in milliseconds, instead.

        Raises:
            UsageError: the limit is not above 0, or is in milliseconds and the run's are not known.
        """
        limit, text = self.latency_limit(max_ratio, max_ms)
        return _least(self._able("latency"), lambda p: p.drop, lambda p: p.cost("latency"), limit, text)

    def _by_goal(self) -> Chosen:
        """What a run with a bound on the latency was for."""
        goal, answer = self.studied.goal, self.answer
        text = f"a latency of at most {goal.max_latency:.3g} of FP32's"
        text += f" and a drop of at most {goal.max_drop:g}" if math.isfinite(goal.max_drop) else ""
        if answer is not None and answer.trial.feasible:
            return Chosen(answer, answer, text)
        able = [p for p in self._able("latency") if p.trial.feasible]
        costs = [goal.cost(p.drop, p.cost("latency"), p.size, p.trial.measured.noise) for p in able]
        best = able[costs.index(min(costs))] if able else None
        near = min(self._able("latency"), key=lambda p: goal.short_of(p.drop, p.cost("latency")), default=None)
        return Chosen(best, best or near, text)

    def plan(self, point: Point, max_drop: float | None = None) -> Plan:
        """The plan file's content, as the run would have written it, with evidence that says where it comes from.

        Args:
            point: one of `points`.
            max_drop: the bound that it was chosen by; by default the run's.
        """
        studied, trial = self.studied, point.trial
        bound = studied.max_drop if max_drop is None else max_drop
        feasible = point.drop <= bound
        units = {
            unit: Choice(
                trial.plan[unit],
                about.fixed or searched_reason(self.noises.get(unit, {}), trial.plan[unit], point.name, feasible),
                about.pinned,
                about.key,
            )
            for unit, about in studied.units.items()
        }
        evidence = {
            "metric": studied.metric,
            "objective": studied.objective,
            "max_drop": bound,
            "feasible": feasible,
            "reason": self.reason(point),
            "machine": dict(studied.machine),
            "splits": studied.splits,
            "point": {"run": str(self.directory.root), **point.to_record()},
        }
        if point.confirmed and studied.answer is not None:
            evidence["answer"] = studied.answer.to_record()
        quantized = any(precision.is_quantized for precision in trial.plan.values())
        return Plan(
            units=units,
            carrier=studied.carrier,
            scheme=studied.scheme,
            backend=studied.backend,
            fingerprints=studied.fingerprints,
            evidence=evidence,
            ranges=self.ranges.to_record() if quantized and self.ranges is not None else None,
        )

    def reason(self, point: Point) -> str:
        """Where a plan comes from and what is known of it, in one line."""
        measured = point.trial.measured
        speed = f"{measured.latency_ratio:.3f} of FP32's latency" if measured.timed else "latency not measured"
        sure = "the run's answer" if point.confirmed else "not confirmed on fresh samples"
        return (
            f"trial {point.trial.number} of the run {self.directory.root}: {speed}, {self.studied.metric} drops by "
            f"{point.drop:.4g} on {point.samples} selection samples; {sure}"
        )

    def build(self, point: Point, folder: str | Path, max_drop: float | None = None) -> RunDirectory:
        """Write plan.json and the lowered model.onnx of a measured plan.

        Args:
            point: one of `points`.
            folder: where; not a run directory, whose other files are of another plan.
            max_drop: the bound that it was chosen by; by default the run's.

        Raises:
            UsageError: the folder is a run directory.
            RunDirectoryError: it cannot be written.
        """
        target = RunDirectory(Path(folder))
        if target.study.exists() or target.evidence.exists() or target.root.resolve() == self.directory.root.resolve():
            raise UsageError(
                f"-o must be a folder of its own, but {folder} is a run directory, whose files belong to its answer; "
                f"choose another"
            )
        plan = self.plan(point, max_drop)
        target.prepare()
        lowered = self._lowerer.lower(plan.precisions(), self.ranges)
        check_model(lowered.ir)
        save_model(lowered.ir, target.model)
        plan.save(target.plan)
        return target

    @cached_property
    def noises(self) -> dict[str, dict[Precision, float]]:
        """Unit -> precision -> noise, in the order of the unit's choices."""
        entries = load_sensitivities(self.directory.profile).entries
        return {
            name: {p: entries[(name, p)].noise for p in unit.choices if (name, p) in entries}
            for name, unit in self.studied.units.items()
        }

    def _able(self, objective: Cost | None) -> list[Point]:
        wanted = objective or "latency"
        return [p for p in self.points if math.isfinite(p.cost(wanted)) and math.isfinite(p.drop)]

    def latency_limit(self, max_ratio: float | None, max_ms: float | None) -> tuple[float, str]:
        """A limit as a share of FP32's latency, and in words.

        Raises:
            UsageError: it is not above 0, or in milliseconds and the run's are not known.
        """
        value = max_ms if max_ratio is None else max_ratio
        if self.studied.objective == "throughput":
            raise UsageError(
                f"the run {self.directory.root} measured throughput, so no latency of its plans is known; tune without "
                f"--objective throughput to bound the latency"
            )
        if value is None or not value > 0:
            raise UsageError("--max-latency must be more than 0: a share of FP32's latency such as 0.5, or 5ms")
        if max_ratio is not None:
            return max_ratio, f"a latency of at most {max_ratio:g} of FP32's"
        if self.fp32_ms is None:
            raise UsageError(
                f"--max-latency must be a share of FP32's latency such as 0.5, since the run {self.directory.root} "
                f"did not end and left no milliseconds; the same `autoprec tune` goes on with it"
            )
        return value / self.fp32_ms, f"a latency of at most {value:g} ms"

    def _point(self, trial: Trial) -> Point:
        answer, measured = self.studied.answer, trial.measured
        size = int(measured.bytes or 0) or len(to_bytes(self._lowerer.lower(trial.plan, self.ranges).ir))
        latency_ms = measured.latency_ratio * answer.fp32_ms if answer is not None and measured.timed else None
        confirmed = answer is not None and dict(answer.plan) == dict(trial.plan)
        samples = measured.samples or self.studied.samples
        return Point(
            trial=trial,
            samples=samples,
            size=size,
            mac_share=mac_share(self.partition, trial.plan),
            latency_ms=latency_ms,
            confirmed=confirmed,
        )

    def _model(self, path: Path) -> Model:
        if not path.is_file():
            raise ModelError(f"the run's model must be at {path}, which is {_what(path)}; say where it is by --model")
        model = load_model(path)
        for what, fingerprint in (("graph", model.graph_fingerprint), ("weights", model.weights_fingerprint)):
            if self.studied.fingerprints.get(what) != fingerprint:
                raise ModelError(
                    f"{path} is not the model that {self.directory.root} was made for: the fingerprint of its {what} "
                    f"is {fingerprint}, not {self.studied.fingerprints.get(what)}; give the old file by --model, or "
                    f"tune this one"
                )
        return model

    def _scheme(self, backend: Backend | None) -> Scheme:
        try:
            return scheme_named(self.studied.scheme, None if backend is None else make_backend(backend).scheme)
        except UsageError as error:
            raise RunDirectoryError(
                f"{self.directory.studied} is damaged, or of a backend that is not given here: there is no scheme "
                f"{self.studied.scheme!r}"
            ) from error

    def _stored_ranges(self) -> RangeTable | None:
        """The run's ranges, None where no plan needs any."""
        if not any(p.is_quantized for options in self.studied.choices.values() for p in options):
            return None
        ranges = load_ranges(self.directory.ranges)
        if ranges.fingerprint != self.studied.fingerprints.get("ranges"):
            raise RunDirectoryError(
                f"{self.directory.ranges} has other ranges than the plans were measured with; run `autoprec tune` "
                f"with the same options and --out {self.directory.root} again"
            )
        return ranges


def load_front(run: str | Path, model: str | Path | None = None, backend: Backend | None = None) -> RunFront:
    """The measured plans of a run directory, to list, to choose from under a new bound, and to build.

    Args:
        run: the run directory, finished or stopped.
        model: where the model is now; by default where the run found it.
        backend: the run's backend, where its scheme is not one of autoprec's.

    Raises:
        RunDirectoryError: there is no run, or it is damaged.
        ModelError: the model is missing or has changed.
    """
    return RunFront(run, model, backend)


def _least(
    points: Sequence[Point],
    wanted: Callable[[Point], float],
    bounded: Callable[[Point], float],
    limit: float,
    text: str,
) -> Chosen:
    """The point that is least in one figure among those within the limit of another, and the nearest to it."""
    costs, bounds = [wanted(point) for point in points], [bounded(point) for point in points]
    location, near = least_within(costs, bounds, limit), nearest(costs, bounds)
    return Chosen(None if location is None else points[location], None if near is None else points[near], text)


def _what(path: Path) -> str:
    return "not there" if not path.exists() else "a folder" if path.is_dir() else "a file"
