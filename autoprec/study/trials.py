"""What the search measures of a plan, and the Optuna study that remembers it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autoprec.errors import RunDirectoryError
from autoprec.precision import Precision
from autoprec.study.goals import Goal, goal_of
from autoprec.study.latency import Assignment
from autoprec.study.owners import abandoned, own_mark
from autoprec.study.sampler import FORETOLD, LATENCY, MEASUREMENT, NOISE, PROPOSED_AS, SIZE, ModelGuidedSampler
from autoprec.study.told import Foretold, Proposal, Told

ORIGIN = "origin"
OWNER = "owner"
REFUSED = "refused"
_MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)
_CONSTRAINT, _LATENCY_CONSTRAINT = "drop above the bound", "latency above the bound"
_WORST = 1e9


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one plan on the selection samples.

    Attributes:
        drop: FP32's metric minus the plan's, by direction: positive = worse.
        judged_drop: the drop that the bound is compared with, see `autoprec.drops`.
        noise: noise-to-signal power ratio of the outputs.
        kl: mean KL divergence from FP32 in nats, None for outputs that are no distributions.
        agreement: share of equal top-1 decisions with FP32, None likewise.
        latency_ratio: latency over FP32's, measured in the same rounds; infinite where a plan over the bound was not
            timed. Where throughput is the objective, the time of one of several batches in flight.
        samples: that it was judged on, None for all: fewer where the verdict was certain before.
        ratio_error: standard error of the ratio, by its rounds; None where it is not known.
        drop_error: standard error of the judged drop, likewise.
        bytes: of the built engine, or of the lowered model where the runtime builds none; None in older studies.
    """

    drop: float
    judged_drop: float
    noise: float
    kl: float | None
    agreement: float | None
    latency_ratio: float
    samples: int | None = None
    ratio_error: float | None = None
    drop_error: float | None = None
    bytes: int | None = None

    @property
    def timed(self) -> bool:
        """Whether its latency was measured."""
        return math.isfinite(self.latency_ratio)


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured plan.

    Attributes:
        number: in order of measurement.
        origin: what proposed it.
        plan: unit -> precision.
        measured: what was found.
        feasible: whether it meets the bounds.
    """

    number: int
    origin: str
    plan: Mapping[str, Precision]
    measured: Measurement
    feasible: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan that is being measured.

    Attributes:
        trial: Optuna's.
        origin: what proposed it.
        plan: unit -> precision.
    """

    trial: optuna.Trial
    origin: str
    plan: dict[str, Precision]


class Ledger:
    """The Optuna study of one run: asks before a plan is measured, is told after, and survives a kill.

    Several processes may share one journal. A plan counts as running while it is measured, so that no two measure the
    same; a running trial whose process is gone is failed by whoever opens the study next.

    Args:
        path: the journal file; None keeps the study in memory.
        name: of the study: other settings are another study in the same file.
        choices: unit -> precisions; units with one choice are no parameters.
        goal: what is minimised, and the bounds; a number is the most drop of the fastest plan.
        sampler: proposes plans where none is enqueued.

    Raises:
        RunDirectoryError: the journal cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None,
        name: str,
        choices: Mapping[str, Sequence[Precision]],
        goal: Goal | float,
        sampler: optuna.samplers.BaseSampler,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.goal, self.sampler = goal_of(goal), sampler
        self._choices = choices
        self._space: dict[str, BaseDistribution] = {
            unit: CategoricalDistribution([p.value for p in options])
            for unit, options in choices.items()
            if len(options) > 1
        }
        self.study = _create(path, name, sampler)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if abandoned(trial.user_attrs.get(OWNER), trial.datetime_start):
                self.study.tell(trial.number, state=TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """Measured plans in order."""
        return _measured(self.study, self._choices, self.goal)

    def enqueue(self, seeds: Mapping[str, Assignment]) -> None:
        """Have these plans measured first, unless they were measured, are being measured, or wait already."""
        states = (*_MEASURED, TrialState.RUNNING, TrialState.WAITING)
        begun = self.study.get_trials(deepcopy=False, states=states)
        known = [{**trial.system_attrs.get("fixed_params", {}), **trial.params} for trial in begun]
        for name, plan in seeds.items():
            params = {unit: plan[unit].value for unit in self._space}
            if params not in known:
                known.append(params)
                self.study.enqueue_trial(params, user_attrs={ORIGIN: name})

    def waiting(self) -> bool:
        """Whether enqueued plans are left to be measured."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def proposal(self) -> Proposal | None:
        """What the guided sampler would ask for next; None where it has nothing left.

        Raises:
            TypeError: another sampler proposes only by being asked.
        """
        if not isinstance(self.sampler, ModelGuidedSampler):
            raise TypeError(f"{self.sampler} cannot say what it would propose")
        return self.sampler.propose(self.study)

    @property
    def guided(self) -> bool:
        """Whether the sampler can say when nothing promises to be better."""
        return isinstance(self.sampler, ModelGuidedSampler)

    def ask(self) -> Asked:
        """Take the next plan: it counts as running until it is told."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask(fixed_distributions=self._space)
        trial.set_user_attr(OWNER, own_mark())
        record = self.study.get_trials(deepcopy=False)[trial.number]
        origin = trial.user_attrs.get(ORIGIN) or record.system_attrs.get(PROPOSED_AS) or str(self.sampler)
        return Asked(trial, origin, _plan(self._choices, trial.params))

    def tell(self, asked: Asked, measured: Measurement) -> Trial:
        """Store what was measured. A plan whose objective is not known is told as pruned, with its constraints."""
        values = asdict(measured)
        stored = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        trial = asked.trial
        trial.set_user_attr(ORIGIN, asked.origin)
        trial.set_user_attr(MEASUREMENT, stored)
        self._tell(trial, measured)
        return _trial(trial.number, asked.origin, asked.plan, measured, self.goal)

    def repeat(self, asked: Asked, measured: Measurement) -> None:
        """Tell the sampler what is known of a plan that it asked for again; it is no new trial."""
        self._tell(asked.trial, measured)

    def fail(self, asked: Asked, words: str = "") -> None:
        """Give a plan up: the runtime refused it, or this process ends."""
        if words:
            asked.trial.set_user_attr(REFUSED, words)
        self.study.tell(asked.trial, state=TrialState.FAIL)

    def refuse(self, plan: Assignment) -> None:
        """Have the guided sampler leave a plan alone."""
        if isinstance(self.sampler, ModelGuidedSampler):
            self.sampler.refuse(plan)

    def told(self) -> list[Told]:
        """Measured plans with what was foretold of them."""
        records = {trial.number: trial for trial in self.study.get_trials(deepcopy=False, states=_MEASURED)}
        found = []
        for trial in self.trials():
            foretold = records[trial.number].system_attrs.get(FORETOLD)
            m = trial.measured
            found.append(
                Told(trial.number, trial.plan, m.latency_ratio if m.timed else None, m.judged_drop, m.noise,
                     None if foretold is None else Foretold(*foretold), m.bytes)
            )  # fmt: skip
        return found

    def _tell(self, trial: optuna.Trial, measured: Measurement) -> None:
        if math.isfinite(measured.noise):
            trial.set_user_attr(NOISE, measured.noise)
        if measured.bytes is not None:
            trial.set_user_attr(SIZE, measured.bytes)
        if measured.timed:
            trial.set_user_attr(LATENCY, measured.latency_ratio)
        goal, value = self.goal, _objective(self.goal, measured)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if math.isfinite(goal.max_drop):
                trial.set_constraint(_CONSTRAINT, min(measured.judged_drop - goal.max_drop, _WORST))
            if math.isfinite(goal.max_latency):
                trial.set_constraint(_LATENCY_CONSTRAINT, min(measured.latency_ratio - goal.max_latency, _WORST))
            if value is None:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, value)


def stored_trials(
    path: Path, name: str, choices: Mapping[str, Sequence[Precision]], goal: Goal | float
) -> tuple[Trial, ...]:
    """The measured plans of a study, in order, while nothing is written to it: another process may be at work there.

    Args:
        path: the journal file.
        name: of the study.
        choices: unit -> precisions, as the study had them.
        goal: whose bounds make a trial feasible; a number is the most drop.

    Raises:
        RunDirectoryError: there is no such study, or it cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not path.is_file():
        raise RunDirectoryError(f"there is no study {path}, so no plan was measured; run `autoprec tune` first")
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return tuple(_measured(optuna.load_study(study_name=name, storage=storage), choices, goal_of(goal)))
    except OSError as error:
        raise RunDirectoryError(f"cannot read the study {path}: {error.strerror or error}") from error
    except Exception as error:  # garbage trips Optuna in as many ways as there is garbage
        raise RunDirectoryError(
            f"the study {path} is damaged ({error!r}); delete it and run `autoprec tune` again"
        ) from error


def _measured(study: optuna.Study, choices: Mapping[str, Sequence[Precision]], goal: Goal) -> list[Trial]:
    found = []
    for trial in study.get_trials(deepcopy=False, states=_MEASURED):
        stored: dict[str, Any] | None = trial.user_attrs.get(MEASUREMENT)
        if stored is not None:
            measured = Measurement(**{key: _number(key, value) for key, value in stored.items()})
            plan = _plan(choices, trial.params)
            found.append(_trial(trial.number, trial.user_attrs[ORIGIN], plan, measured, goal))
    return found


def _plan(choices: Mapping[str, Sequence[Precision]], params: Mapping[str, Any]) -> dict[str, Precision]:
    """Units with one choice are no parameters."""
    return {unit: options[0] if len(options) == 1 else Precision(params[unit]) for unit, options in choices.items()}


def _trial(number: int, origin: str, plan: Assignment, measured: Measurement, goal: Goal) -> Trial:
    feasible = goal.accepts(measured.judged_drop, measured.latency_ratio)
    return Trial(number, origin, dict(plan), measured, feasible)


def _objective(goal: Goal, measured: Measurement) -> float | None:
    """What is minimised; None where it is not known."""
    if goal.objective == "size":
        return None if measured.bytes is None else float(measured.bytes)
    if goal.objective == "accuracy":
        return min(measured.judged_drop, _WORST)
    return measured.latency_ratio if measured.timed else None


def _create(path: Path | None, name: str, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    try:
        storage = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(storage=storage, sampler=sampler, study_name=name, load_if_exists=True)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot keep the study in {path}: {error.strerror or error}; choose a writable folder by --out"
        ) from error
    except Exception as error:  # garbage trips Optuna in as many ways as there is garbage
        raise RunDirectoryError(f"the study {path} is damaged ({error!r}); delete it to search again") from error


def _number(key: str, value: Any) -> Any:
    if value is None and key not in ("kl", "agreement", "samples", "ratio_error", "drop_error", "bytes"):
        return float("inf")
    return value
