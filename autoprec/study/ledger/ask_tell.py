"""The Optuna study of a run: who measures which plan, and what was measured of it."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from autoprec.errors import RunDirectoryError, StorageError
from autoprec.plan import Assignment
from autoprec.study.goal import Goal, goal_of
from autoprec.study.guide.proposals import Proposal
from autoprec.study.ledger.asked import Asked, Queue
from autoprec.study.ledger.claims import OWNER, Claims, Key
from autoprec.study.ledger.outcomes import tell
from autoprec.study.ledger.owners import Watch, own_label
from autoprec.study.ledger.patience import guarded
from autoprec.study.ledger.session import Session
from autoprec.study.ledger.status import TrialStatus, is_measured, refused_with
from autoprec.study.ledger.storages import StudyLocation, journal_location, lost, opened_study
from autoprec.study.ledger.taking import give_way, take
from autoprec.study.ledger.trials import measured_trial, measured_trials, plan_of_params
from autoprec.study.optuna_adapter import MEASUREMENT, ORIGIN, PROPOSED_AS, fail_trial, is_enqueued, prediction_of
from autoprec.study.sampler import ModelGuidedSampler
from autoprec.study.trial import Choices, Measurement, Trial

_TOLD_LATE = (UpdateFinishedTrialError, ValueError)
"""What Optuna raises for a trial that was taken from a process that was thought dead."""


class Ledger:
    """The Optuna study of one run: asks before a plan is measured, is told after, and survives a kill.

    Several processes may share it, on this machine or others. A plan counts as running while it is measured, so that
    no two processes measure the same; what a process that died had begun waits for the next one that asks. The life of
    a trial is drawn in `autoprec.study.ledger.status.TrialStatus`.

    Args:
        location: where the study is kept, a path for a journal file; None keeps it in memory.
        name: the name of the study: other settings are another study in the same location.
        choices: unit -> precisions; units with one choice are no parameters.
        goal: what is minimised, and the bounds; a number is the most drop of the fastest plan.
        sampler: proposes plans where none is enqueued.
        join: whether the study must be there already.
        process: the process that asks, by default this one.
        watch: how long other processes have been silent, by default as this process sees them.

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
        process: dict[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.patient = True
        self.location = journal_location(location) if isinstance(location, Path) else location
        self.goal, self.sampler = goal_of(goal), sampler
        self._choices = choices
        self._space: dict[str, BaseDistribution] = {
            unit: CategoricalDistribution([p.value for p in options])
            for unit, options in choices.items()
            if len(options) > 1
        }
        self._process = process or own_label()
        self.study = opened_study(self.location, name, sampler, join=join)
        self._session = Session(self.study, self._process, watch or Watch())
        self.release()

    @guarded
    def trials(self) -> list[Trial]:
        """Measured plans in order, whoever measured them."""
        return measured_trials(self._records(), self._choices, self.goal)

    @guarded
    def begin(self) -> None:
        """Open the study to workers: those that join from now on belong to this session.

        Raises:
            UsageError: another process that is alive leads the study.
        """
        self._session.begin(len(self._records()))

    @guarded
    def end(self, text: str) -> None:
        """Tell the workers why no more plans are wanted."""
        self._session.end(text)

    @guarded
    def ended(self) -> str | None:
        """Why no more plans are wanted, None where they are."""
        return self._session.ended()

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Give signs of life while the block runs, by which processes on other hosts see that this one is alive."""
        if self.location is None:  # nobody else can see a study in memory
            yield
            return
        with lost(self.location), self._session.present():
            yield

    @guarded
    def enqueue(self, seeds: Mapping[str, Assignment]) -> None:
        """Have these plans measured first, unless they were measured, are being measured, or wait already."""
        claims = self.claims()
        # A twin that the sampler proposed does not count, since it may be given up; if it is kept, ours is dropped.
        known = {claims.key(record) for record in claims.counted() if is_measured(record) or is_enqueued(record)}
        for name, plan in seeds.items():
            key = tuple(plan[unit].value for unit in self._space)
            if key not in known:
                known.add(key)
                self._enqueue(key, name)
        self._drop_twins()

    @guarded
    def recover(self) -> None:
        """Have what dead processes had begun measured by others, once more each."""
        again, _ = self.release().orphans(self._session.first())
        for key, record in again.items():
            self._enqueue(key, self._origin(record))
        if again:
            self._drop_twins()

    @guarded
    def queue(self) -> Queue:
        """What is under way in all processes."""
        counted = list(self.claims().counted())
        states = Counter(r.state for r in counted)
        return Queue(states[TrialState.WAITING], states[TrialState.RUNNING], len(counted))

    @guarded
    def refusals(self) -> list[tuple[Assignment, str]]:
        """Plans that the runtime refused in this session, in whichever process, and those that ended several."""
        return [
            (plan_of_params(self._choices, dict(zip(self._space, key, strict=True))), f"{self._origin(record)}: {text}")
            for key, record, text in self.claims().refused(self._session.first())
        ]

    @guarded
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
        """Whether the sampler can say when no other plan is predicted to be better."""
        return isinstance(self.sampler, ModelGuidedSampler)

    @guarded
    def ask(self, limit: int | None = None) -> Asked | None:
        """Take the next plan: it counts as running until it is told.

        Args:
            limit: the most plans; what was enqueued is asked for nevertheless.

        Returns:
            None where another process was quicker to take the plan or the last of the limit.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = self.study.ask(fixed_distributions=self._space)
            claims = self._claimed(trial, limit)
        except UpdateFinishedTrialError:  # another process took it away before this one had marked it as its own
            return None
        if claims is None:
            return None
        record, known = claims.records[trial.number], claims.known(trial.number)
        return Asked(
            trial=trial,
            origin=self._origin(record),
            plan=plan_of_params(self._choices, trial.params),
            known=None if known is None else measured_trial(known, self._choices, self.goal),
            predicted=prediction_of(record),
        )

    @guarded
    def tell(self, asked: Asked, measured: Measurement) -> Trial | None:
        """Store what was measured. A plan whose objective is not known is told as pruned, with its constraints.

        Returns:
            None where this process was thought dead meanwhile, so that the plan is another's now.
        """
        try:
            asked.trial.set_user_attr(ORIGIN, asked.origin)
            asked.trial.set_user_attr(MEASUREMENT, measured.to_record())
            tell(self.study, asked.trial, measured, self.goal)
        except _TOLD_LATE:
            if self._records()[asked.trial.number].state is TrialState.RUNNING:
                raise
            return None
        return Trial(
            number=asked.trial.number,
            origin=asked.origin,
            plan=asked.plan,
            measured=measured,
            feasible=self.goal.accepts(measured.judged_drop, measured.latency_ratio),
            predicted=asked.predicted,
        )

    @guarded
    def repeat(self, asked: Asked, measured: Measurement) -> None:
        """Tell the sampler what is known of a plan that it asked for again; it is no new trial."""
        with contextlib.suppress(*_TOLD_LATE):
            tell(self.study, asked.trial, measured, self.goal)

    def fail(self, asked: Asked, text: str = "") -> None:
        """Give a plan up: the runtime refused it, as the text says, or it need not be measured."""
        self._fail(asked, refused_with(text) if text else {})

    def leave(self, asked: Asked) -> None:
        """Leave a plan to other processes, as this one ends."""
        self.patient = False
        with contextlib.suppress(StorageError, RunDirectoryError):  # the process ends for another reason
            self._fail(asked, TrialStatus.STOPPED.attributes)

    @guarded
    def _fail(self, asked: Asked, attributes: Mapping[str, str]) -> None:
        fail_trial(self.study, asked.trial, attributes)

    def refuse(self, plan: Assignment) -> None:
        """Have the guided sampler never propose a plan again."""
        if isinstance(self.sampler, ModelGuidedSampler):
            self.sampler.refuse(plan)

    @guarded
    def by_process(self) -> dict[str, int]:
        """host:pid -> the number of plans that it measured in this session."""
        first = self._session.first()
        records = [r for r in self.claims().counted() if r.number >= first and MEASUREMENT in r.user_attrs]
        owners = [r.user_attrs.get(OWNER, {}) for r in records]
        return dict(Counter(f"{owner.get('host')}:{owner.get('pid')}" for owner in owners))

    def claims(self) -> Claims:
        """All trials of this moment."""
        return Claims(self._records(), tuple(self._space))

    def release(self) -> Claims:
        """Fail the running trials of processes that are gone; returns all trials after that."""
        claims = self.claims()
        return self.claims() if self._session.release(claims.records) else claims

    def _records(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _origin(self, record: FrozenTrial) -> str:
        return str(record.user_attrs.get(ORIGIN) or record.system_attrs.get(PROPOSED_AS) or self.sampler)

    def _enqueue(self, key: Key, origin: str) -> None:
        self.study.enqueue_trial(dict(zip(self._space, key, strict=True)), user_attrs={ORIGIN: origin})

    def _drop_twins(self) -> None:
        for record in self.claims().twins():
            give_way(self.study, record)

    def _claimed(self, trial: optuna.Trial, limit: int | None) -> Claims | None:
        """All trials after this one was marked as this process's; None where it had to give way."""
        if not take(self.study, trial, self._process):
            return None
        claims = self.claims()
        full = limit is not None and claims.beyond(trial.number, limit, self._session.first())
        if not (full or claims.gives_way(trial.number)):
            trial.set_user_attr(OWNER, self._process)
            claims = self.claims()  # another process may have marked a trial of the same plan at the same time
            if not claims.gives_way(trial.number):
                return claims
        give_way(self.study, claims.records[trial.number])
        return None
