"""What the search measures of a plan, and the Optuna study that remembers it."""

from __future__ import annotations

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
from autoprec.study.latency import Assignment

ORIGIN = "origin"
MEASUREMENT = "measurement"
_CONSTRAINT = "drop above the bound"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one plan on the selection samples.

    Attributes:
        drop: FP32's metric minus the plan's, by direction: positive = worse.
        judged_drop: the drop that the bound is compared with, see `autoprec.drops`.
        noise: noise-to-signal power ratio of the outputs.
        kl: mean KL divergence from FP32 in nats, None for outputs that are no distributions.
        agreement: share of equal top-1 decisions with FP32, None likewise.
        latency_ratio: latency over FP32's, measured in the same rounds.
    """

    drop: float
    judged_drop: float
    noise: float
    kl: float | None
    agreement: float | None
    latency_ratio: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured plan.

    Attributes:
        number: in order of measurement.
        origin: what proposed it.
        plan: unit -> precision.
        measured: what was found.
        feasible: whether its judged drop meets the bound.
    """

    number: int
    origin: str
    plan: Mapping[str, Precision]
    measured: Measurement
    feasible: bool


class Ledger:
    """The Optuna study of one run: asks, tells, and survives a kill.

    Args:
        path: the journal file; None keeps the study in memory.
        name: of the study: other settings are another study in the same file.
        choices: unit -> precisions; units with one choice are no parameters.
        max_drop: the bound.
        seed: of the sampler.

    Raises:
        RunDirectoryError: the journal cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None,
        name: str,
        choices: Mapping[str, Sequence[Precision]],
        max_drop: float,
        seed: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.max_drop = max_drop
        self._fixed = {unit: options[0] for unit, options in choices.items() if len(options) == 1}
        self._space: dict[str, BaseDistribution] = {
            unit: CategoricalDistribution([p.value for p in options])
            for unit, options in choices.items()
            if len(options) > 1
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental features of Optuna say so at each use
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=4)
            self._study = _create(path, name, sampler)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)  # what a killed run had begun
        for _ in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.tell(self._study.ask(), state=TrialState.FAIL)  # asking gives these first

    def trials(self) -> list[Trial]:
        """Measured plans in order."""
        found = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            plan = {**self._fixed, **{unit: Precision(value) for unit, value in trial.params.items()}}
            stored: dict[str, Any] = trial.user_attrs[MEASUREMENT]
            measured = Measurement(**{key: _number(key, value) for key, value in stored.items()})
            feasible = measured.judged_drop <= self.max_drop
            found.append(Trial(trial.number, trial.user_attrs[ORIGIN], plan, measured, feasible))
        return found

    def suggest(self) -> dict[str, Precision]:
        """What the study's sampler would try next."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(fixed_distributions=self._space)
        plan = {**self._fixed, **{unit: Precision(value) for unit, value in trial.params.items()}}
        self._study.tell(trial.number, state=TrialState.FAIL)  # it is told under its own number when measured
        return plan

    def record(self, plan: Assignment, origin: str, measured: Measurement) -> Trial:
        """Store a measured plan as a completed trial."""
        params = {unit: plan[unit].value for unit in self._space}
        values = asdict(measured)
        stored = {key: None if isinstance(v, float) and v in (float("inf"),) else v for key, v in values.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.enqueue_trial(params, user_attrs={ORIGIN: origin, MEASUREMENT: stored})
            trial = self._study.ask(fixed_distributions=self._space)
            excess = measured.judged_drop - self.max_drop
            trial.set_constraint(_CONSTRAINT, min(excess, 1e9))
            self._study.tell(trial, measured.latency_ratio)
        return Trial(trial.number, origin, dict(plan), measured, measured.judged_drop <= self.max_drop)


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
    if value is None and key not in ("kl", "agreement"):
        return float("inf")
    return value
