"""Which trial has which plan, so that several processes measure each plan once.

The storages of Optuna have no lock in common, but all of them number their trials in order. So of two trials with one
plan the later one gives way. Each process writes its plan down, looks at the others, marks the trial as its own, and
looks again: of any two processes at least one sees the other in time, so that never both measure the plan.

The limit on the number of plans rests on the same order: a proposal counts the earlier trials that hold a plan.
Enqueued plans are not checked against the limit when a process takes them, so room must be reserved for them before.
Seeds are enqueued before any worker may ask. A plan that was left keeps its room from the moment at which its trial
fails until it is enqueued again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from autoprec.study.ledger.status import REFUSED, TrialStatus, is_measured, is_open, left_as
from autoprec.study.optuna_adapter import chosen_params, is_enqueued

OWNER = "owner"
"""User attribute: the process that measures the trial, see `autoprec.study.ledger.owners`."""
MOST_KILLS = 2
"""A plan at which so many processes were killed is not given to another one."""

Key = tuple[str, ...]
"""A plan as the precisions of the units that have a choice, in the order of the units."""


@dataclass(frozen=True, slots=True)
class Claims:
    """All trials of a study at one moment.

    Attributes:
        records: the trials, in the order of their numbers.
        units: the names of the units that have a choice.
    """

    records: Sequence[FrozenTrial]
    units: tuple[str, ...]

    def key(self, record: FrozenTrial) -> Key | None:
        """The trial's plan, None where it has none yet."""
        chosen = chosen_params(record)
        return tuple(str(chosen[u]) for u in self.units) if all(u in chosen for u in self.units) else None

    def counted(self) -> Iterator[FrozenTrial]:
        """The trials that count against the limit: measured ones, those being measured, and those that wait."""
        return (record for record in self.records if is_open(record) or is_measured(record))

    def gives_way(self, number: int) -> bool:
        """Whether another open trial holds the plan of this one, or had it first."""
        mine = self.records[number]
        key, marked = self.key(mine), OWNER in mine.user_attrs
        for other in self.records:
            if other.number == number or not is_open(other) or self.key(other) != key:
                continue
            if other.number < number or (not marked and OWNER in other.user_attrs):
                return True
        return False

    def known(self, number: int) -> FrozenTrial | None:
        """The trial that measured the same plan, None where there is none."""
        key = self.key(self.records[number])
        return next((r for r in self.records if is_measured(r) and r.number != number and self.key(r) == key), None)

    def beyond(self, number: int, limit: int, first: int) -> bool:
        """Whether the limit was reached before a trial that the sampler proposed.

        Args:
            number: the number of the trial, which has its plan.
            limit: the most plans that may be measured.
            first: the number of the session's first trial.
        """
        mine = self.records[number]
        if is_enqueued(mine):
            return False
        earlier = [r for r in self.counted() if r.number < number or is_enqueued(r)]
        # A later proposal of a plan that was left may be turned away, and a trial without parameters may choose anew.
        held = {self.key(r) for r in (*earlier, mine) if is_enqueued(r) or all(u in r.params for u in self.units)}
        again, _ = self._left(first, held)
        return len(earlier) + len(again) >= limit

    def twins(self) -> Iterator[FrozenTrial]:
        """Waiting trials whose plan an earlier trial has too: two processes enqueued it at once."""
        return (r for r in self.records if r.state is TrialState.WAITING and self._has_elder(r))

    def orphans(self, first: int) -> tuple[dict[Key, FrozenTrial], dict[Key, FrozenTrial]]:
        """Plans that were left and that no trial holds any more.

        Args:
            first: the number of the session's first trial. Only kills of this session count, since a user who starts
                an earlier one again wants its plans tried again.

        Returns:
            The plans to measure again, and those at which too many processes were killed, each with a trial of it.
        """
        return self._left(first, {self.key(r) for r in self.counted()})

    def refused(self, first: int) -> list[tuple[Key, FrozenTrial, str]]:
        """Plans that the runtime refused in this session, and those at which too many processes were killed.

        Args:
            first: the number of the session's first trial.

        Returns:
            Each plan with a trial of it and the reason.
        """
        found = [(r, str(r.user_attrs[REFUSED])) for r in self.records[first:] if REFUSED in r.user_attrs]
        _, deadly = self.orphans(first)
        found += [(r, f"it ended {MOST_KILLS} processes that measured it") for r in deadly.values()]
        return [(key, record, text) for record, text in found if (key := self.key(record)) is not None]

    def _left(self, first: int, held: set[Key | None]) -> tuple[dict[Key, FrozenTrial], dict[Key, FrozenTrial]]:
        taken = held | {self.key(r) for r in self.records if REFUSED in r.user_attrs}
        left = [(key, r) for r in self.records if left_as(r) is not None and (key := self.key(r)) is not None]
        kills = Counter(key for key, r in left if r.number >= first and left_as(r) is TrialStatus.KILLED)
        free = {key: r for key, r in left if key not in taken and r.state is TrialState.FAIL}
        deadly = {key: r for key, r in free.items() if kills[key] >= MOST_KILLS}
        return {key: r for key, r in free.items() if key not in deadly}, deadly

    def _has_elder(self, record: FrozenTrial) -> bool:
        key = self.key(record)
        elders = (r for r in self.counted() if r.number < record.number or is_measured(r))
        return any(self.key(r) == key for r in elders if r.number != record.number)
