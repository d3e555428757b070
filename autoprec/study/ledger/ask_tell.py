"""The Optuna study of a run: who measures which plan, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from autoprec.errors import RunDirectoryError, StorageError
from autoprec.plan import Assignment
from autoprec.study.goal import Goal, goal_of
from autoprec.study.guide.told import KnownPlan, Predicted, Proposal
from autoprec.study.ledger.asked import Asked, Queue
from autoprec.study.ledger.claims import LEFT, MOST_KILLS, OWNER, REFUSED, TAKER, Claims, enqueued, measured, takers
from autoprec.study.ledger.outcomes import tell
from autoprec.study.ledger.owners import HUNG_S, Watch, abandoned, beating, elsewhere, label, own_label
from autoprec.study.ledger.storages import StudyLocation, journal_location, lost, opened_study
from autoprec.study.ledger.trials import ORIGIN, as_stored, measured_trial, measured_trials, plan_of_params
from autoprec.study.sampler import MEASUREMENT, PREDICTED, PROPOSED_AS, ModelGuidedSampler
from autoprec.study.trial import Choices, Measurement, Trial

P = ParamSpec("P")
R = TypeVar("R")
_ENDED = "autoprec:ended"
_FIRST = "autoprec:first"
_BEAT = "autoprec:beat:"
_TOLD_LATE = (UpdateFinishedTrialError, ValueError)
"""What Optuna raises where a trial was taken away from a process that was thought dead."""


def _guarded(method: Callable[Concatenate[Ledger, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """Words for people where the storage cannot be reached any more."""

    @functools.wraps(method)
    def guarded(self: Ledger, /, *args: P.args, **options: P.kwargs) -> R:
        with contextlib.nullcontext() if self.location is None else lost(self.location):
            return method(self, *args, **options)

    return guarded


class Ledger:
    """The Optuna study of one run: asks before a plan is measured, is told after, and survives a kill.

    Several processes may share it, on this machine or others. A plan counts as running while it is measured, so that
    no two measure the same; what a process that died had begun waits for the next one that asks.

    Args:
        place: where it is kept, a path for a journal file; None keeps it in memory.
        name: of the study: other settings are another study in the same place.
        choices: unit -> precisions; units with one choice are no parameters.
        goal: what is minimised, and the bounds; a number is the most drop of the fastest plan.
        sampler: proposes plans where none is enqueued.
        join: only take part in a study that is there.

    Raises:
        RunDirectoryError: the journal cannot be read or written, or there is no study to join.
        StorageError: the database or proxy cannot be reached.
    """

    def __init__(
        self,
        location: StudyLocation | Path | None,
        name: str,
        choices: Choices,
        goal: Goal | float,
        sampler: optuna.samplers.BaseSampler,
        *,
        join: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.location = journal_location(location) if isinstance(location, Path) else location
        self.goal, self.sampler = goal_of(goal), sampler
        self._choices = choices
        self._space: dict[str, BaseDistribution] = {
            unit: CategoricalDistribution([p.value for p in options])
            for unit, options in choices.items()
            if len(options) > 1
        }
        self._watch, self._mark = Watch(), own_label()
        self._session: int | None = None
        self.study = opened_study(self.location, name, sampler, join=join)
        self._release()

    @_guarded
    def trials(self) -> list[Trial]:
        """Measured plans in order, whoever measured them."""
        return measured_trials(self._records(), self._choices, self.goal)

    @_guarded
    def begin(self) -> None:
        """Open the study to workers: those that join now belong to this session."""
        self._session = len(self._records())
        self.study.set_user_attr(_FIRST, self._session)
        self.study.set_user_attr(_ENDED, None)

    @_guarded
    def end(self, why: str) -> None:
        """Tell the workers that no more plans are wanted."""
        self.study.set_user_attr(_ENDED, why)

    @_guarded
    def ended(self) -> str | None:
        """Why no more plans are wanted, None where they are."""
        found: str | None = self.study.user_attrs.get(_ENDED)
        return found

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Give signs of life while the block runs, by which processes elsewhere see that this one lives."""
        key = _BEAT + label(self._mark)
        with (
            contextlib.nullcontext() if self.location is None else lost(self.location),
            contextlib.ExitStack() as stack,
        ):
            if self.location is not None:
                stack.enter_context(beating(lambda count: self.study.set_user_attr(key, count)))
            yield

    @_guarded
    def enqueue(self, seeds: Mapping[str, Assignment]) -> None:
        """Have these plans measured first, unless they were measured, are being measured, or wait already."""
        claims = self._claims()  # a proposal may yet be given up: where it is kept, the twin is dropped
        known = {claims.key(record) for record in claims.counted() if measured(record) or enqueued(record)}
        for name, plan in seeds.items():
            key = tuple(plan[unit].value for unit in self._space)
            if key not in known:
                known.add(key)
                self._enqueue(key, name)
        self._drop_twins()

    @_guarded
    def recover(self) -> None:
        """Have what dead processes had begun measured by others, once more each."""
        claims = self._release()
        again, _ = claims.orphans(self._first())
        for key, record in again.items():
            self._enqueue(key, self._origin(record))
        if again:
            self._drop_twins()

    @_guarded
    def queue(self) -> Queue:
        """What is under way in all processes."""
        counted = list(self._claims().counted())
        states = Counter(record.state for record in counted)
        return Queue(states[TrialState.WAITING], states[TrialState.RUNNING], len(counted))

    def waiting(self) -> bool:
        """Whether enqueued plans are left to be measured."""
        return self.queue().waiting > 0

    @_guarded
    def refusals(self) -> list[tuple[Assignment, str]]:
        """Plans that the runtime refused in this session, in whichever process, and those that ended several."""
        claims, first = self._claims(), self._first()
        found = [(r, r.user_attrs[REFUSED]) for r in claims.records[first:] if REFUSED in r.user_attrs]
        _, deadly = claims.orphans(first)
        found += [(r, f"it ended {MOST_KILLS} processes that measured it") for r in deadly.values()]
        return [
            (plan_of_params(self._choices, dict(zip(self._space, key, strict=True))), f"{self._origin(r)}: {text}")
            for r, text in found
            if (key := claims.key(r)) is not None
        ]

    @_guarded
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

    @_guarded
    def ask(self, limit: int | None = None) -> Asked | None:
        """Take the next plan: it counts as running until it is told.

        Args:
            limit: the most plans; what was enqueued is asked for nevertheless.

        Returns:
            None where another process was quicker to take the plan or the last of the budget.
        """
        trial = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = self.study.ask(fixed_distributions=self._space)
            if not self._took(trial):
                return None
            claims = self._claims()
            late = claims.gives_way(trial.number)
            late = late or (limit is not None and claims.beyond(trial.number, limit, self._first()))
            if not late:
                trial.set_user_attr(OWNER, self._mark)
                claims = self._claims()
                late = claims.gives_way(trial.number)
        except UpdateFinishedTrialError:  # taken away before it was marked
            return None
        if late:
            self._yield(claims.records[trial.number])
            return None
        known = claims.known(trial.number)
        return Asked(
            trial,
            self._origin(claims.records[trial.number]),
            plan_of_params(self._choices, trial.params),
            None if known is None else measured_trial(known, self._choices, self.goal),
        )

    @_guarded
    def tell(self, asked: Asked, measured: Measurement) -> Trial | None:
        """Store what was measured. A plan whose objective is not known is told as pruned, with its constraints.

        Returns:
            None where this process was thought dead meanwhile, so that the plan is another's now.
        """
        try:
            asked.trial.set_user_attr(ORIGIN, asked.origin)
            asked.trial.set_user_attr(MEASUREMENT, as_stored(measured))
            tell(self.study, asked.trial, measured, self.goal)
        except _TOLD_LATE:
            if self._records()[asked.trial.number].state is TrialState.RUNNING:
                raise
            return None
        feasible = self.goal.accepts(measured.judged_drop, measured.latency_ratio)
        return Trial(
            number=asked.trial.number, origin=asked.origin, plan=asked.plan, measured=measured, feasible=feasible
        )

    @_guarded
    def repeat(self, asked: Asked, measured: Measurement) -> None:
        """Tell the sampler what is known of a plan that it asked for again; it is no new trial."""
        with contextlib.suppress(*_TOLD_LATE):
            tell(self.study, asked.trial, measured, self.goal)

    @_guarded
    def fail(self, asked: Asked, text: str = "") -> None:
        """Give a plan up: the runtime refused it, or it need not be measured."""
        self._fail(asked.trial._trial_id, {REFUSED: text} if text else {})

    def leave(self, asked: Asked) -> None:
        """Leave a plan to other processes, as this one ends."""
        with contextlib.suppress(StorageError, RunDirectoryError):  # the process ends for another reason
            self._leave(asked)

    @_guarded
    def _leave(self, asked: Asked) -> None:
        self._fail(asked.trial._trial_id, {LEFT: "stopped"})

    def refuse(self, plan: Assignment) -> None:
        """Have the guided sampler leave a plan alone."""
        if isinstance(self.sampler, ModelGuidedSampler):
            self.sampler.refuse(plan)

    @_guarded
    def told(self) -> list[KnownPlan]:
        """Measured plans with what was foretold of them."""
        records = self._records()
        found = []
        for trial in measured_trials(records, self._choices, self.goal):
            predicted = records[trial.number].system_attrs.get(PREDICTED)
            m = trial.measured
            found.append(
                KnownPlan(
                    number=trial.number,
                    plan=trial.plan,
                    latency=m.latency_ratio if m.timed else None,
                    drop=m.judged_drop,
                    noise=m.noise,
                    predicted=None if predicted is None else Predicted(*predicted),
                    size=m.bytes,
                    layers_ms=m.layers_ms,
                )
            )
        return found

    @_guarded
    def by_process(self) -> dict[str, int]:
        """host:pid -> plans that it measured in this session."""
        records = [r for r in self._claims().counted() if r.number >= self._first() and MEASUREMENT in r.user_attrs]
        owners = [r.user_attrs.get(OWNER, {}) for r in records]
        return dict(Counter(f"{owner.get('host')}:{owner.get('pid')}" for owner in owners))

    def _records(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _claims(self) -> Claims:
        return Claims(self._records(), tuple(self._space))

    def _first(self) -> int:
        """Number of the session's first trial."""
        if self._session is None:
            self._session = int(self.study.user_attrs.get(_FIRST, 0))
        return self._session

    def _origin(self, record: FrozenTrial) -> str:
        return str(record.user_attrs.get(ORIGIN) or record.system_attrs.get(PROPOSED_AS) or self.sampler)

    def _enqueue(self, key: tuple[str, ...], origin: str) -> None:
        self.study.enqueue_trial(dict(zip(self._space, key, strict=True)), user_attrs={ORIGIN: origin})

    def _drop_twins(self) -> None:
        for record in self._claims().twins():
            self._yield(record)

    def _yield(self, record: FrozenTrial) -> None:
        """Give way to another trial, which may yet fail: what was enqueued is owed all the same."""
        self._fail(record._trial_id, {LEFT: "yielded"} if enqueued(record) else {})

    def _took(self, trial: optuna.Trial) -> bool:
        """Whether an enqueued trial is this process's alone; the last of several that give it up has it wait again."""
        if not enqueued(self._records()[trial.number]):
            return True
        key = TAKER + label(self._mark)
        trial.set_user_attr(key, True)
        if len(takers(self._records()[trial.number])) == 1:
            return True
        trial.set_user_attr(key, False)
        record = self._records()[trial.number]
        if not any(takers(record).values()):
            self._yield(record)
        return False

    def _release(self) -> Claims:
        """Fail the running trials of processes that are gone; all trials after that."""
        claims, gone = self._claims(), False
        beats: Mapping[str, Any] | None = None
        for record in claims.records:
            owner, silent = record.user_attrs.get(OWNER), None
            if record.state is not TrialState.RUNNING or owner == self._mark:
                continue
            if owner is not None and elsewhere(owner):
                beats = self.study.user_attrs if beats is None else beats
                silent = self._watch.silent_s(label(owner), beats.get(_BEAT + label(owner)))
            hangs = (self._watch.silent_s(f"trial {record.number}", "runs") or 0.0) > HUNG_S
            if hangs or abandoned(owner, record.datetime_start, silent):
                gone = True
                begun = owner is not None or enqueued(record)  # else it may be beyond the budget
                self._fail(record._trial_id, {LEFT: "killed"} if begun else {})
        return self._claims() if gone else claims

    def _fail(self, trial_id: int, attributes: Mapping[str, str] | None = None) -> None:
        """Several processes may try; what the first of them said stays, and is there before the trial has failed."""
        storage = self.study._storage
        with contextlib.suppress(UpdateFinishedTrialError):
            for key, value in (attributes or {}).items():
                storage.set_trial_user_attr(trial_id, key, value)
            storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
