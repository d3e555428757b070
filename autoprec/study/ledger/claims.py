"""Which trial has which plan, so that several processes measure each plan once.

No storage of Optuna has locks that all of them share. What they do have is numbers: of two trials with one plan the
later one gives way. Each process writes its plan down, looks, marks the trial as its own and looks again, so that of
any two at least one sees the other in time, and never do both measure.

The budget rests on the same order: a proposal counts the earlier trials that hold a place. What is enqueued is measured
in any case, so its place must be held before it is there: seeds are enqueued before anybody else may ask, and a plan
that was left keeps its place from the moment that its trial fails until it is enqueued again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from autoprec.study.sampler import CLAIM, MEASUREMENT

OWNER = "owner"
TAKER = "autoprec:taker:"
"""Before the name of a process that took an enqueued trial: True, or False where it gave the trial up to another."""
REFUSED = "refused"
LEFT = "left"
"""Of a failed trial whose plan is owed: "killed", "stopped" where its process ended in order, or "yielded" where what
was enqueued gave way to another trial, which may yet give the plan up."""
MOST_KILLS = 2
"""A plan that took so many processes with it is not given to another one."""

Key = tuple[str, ...]
_OPEN = (TrialState.RUNNING, TrialState.WAITING)
_MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Claims:
    """The trials of one moment.

    Attributes:
        records: all of them, by number.
        units: those that have a choice, in order.
    """

    records: Sequence[FrozenTrial]
    units: tuple[str, ...]

    def key(self, record: FrozenTrial) -> Key | None:
        """Its plan, None where it has none yet."""
        chosen = {**record.system_attrs.get("fixed_params", {}), **record.system_attrs.get(CLAIM, {}), **record.params}
        return tuple(str(chosen[u]) for u in self.units) if all(u in chosen for u in self.units) else None

    def counted(self) -> Iterator[FrozenTrial]:
        """What the budget pays for: measured plans, those that are being measured, and those that wait."""
        return (r for r in self.records if r.state in _OPEN or measured(r))

    def gives_way(self, number: int) -> bool:
        """Whether another process has the plan of an open trial, or had it first."""
        mine = self.records[number]
        key, marked = self.key(mine), OWNER in mine.user_attrs
        for other in self.records:
            if other.number == number or other.state not in _OPEN or self.key(other) != key:
                continue
            if other.number < number or (not marked and OWNER in other.user_attrs):
                return True
        return False

    def known(self, number: int) -> FrozenTrial | None:
        """The trial that measured the same plan."""
        key = self.key(self.records[number])
        return next((r for r in self.records if measured(r) and r.number != number and self.key(r) == key), None)

    def beyond(self, number: int, limit: int, first: int) -> bool:
        """Whether the budget was spent before a trial that the sampler proposed.

        Args:
            number: of the trial, which has its plan.
            limit: the most plans.
            first: number of the session's first trial.
        """
        mine = self.records[number]
        if enqueued(mine):
            return False
        places = [r for r in self.counted() if r.number < number or enqueued(r)]
        # A later proposal of a plan that was left may be turned away, and an undecided one may choose anew.
        held = {self.key(r) for r in (*places, mine) if enqueued(r) or all(u in r.params for u in self.units)}
        left, _ = self._left(first, held)
        return len(places) + len(left) >= limit

    def twins(self) -> Iterator[FrozenTrial]:
        """Waiting trials whose plan another has, or waits with first: two processes enqueued it at once."""
        return (r for r in self.records if r.state is TrialState.WAITING and self._has_elder(r))

    def orphans(self, first: int) -> tuple[dict[Key, FrozenTrial], dict[Key, FrozenTrial]]:
        """Plans that were begun and that nobody has any more: those to measure again, and those that kill.

        Args:
            first: number of the session's first trial; what an earlier one was killed at is the user's affair.
        """
        return self._left(first, {self.key(r) for r in self.counted()})

    def _left(self, first: int, held: set[Key | None]) -> tuple[dict[Key, FrozenTrial], dict[Key, FrozenTrial]]:
        taken = held | {self.key(r) for r in self.records if REFUSED in r.user_attrs}
        left = [(key, r) for r in self.records if LEFT in r.user_attrs and (key := self.key(r)) is not None]
        kills = Counter(key for key, r in left if r.number >= first and r.user_attrs[LEFT] == "killed")
        free = {key: r for key, r in left if key not in taken and r.state is TrialState.FAIL}
        deadly = {key: r for key, r in free.items() if kills[key] >= MOST_KILLS}
        return {key: r for key, r in free.items() if key not in deadly}, deadly

    def _has_elder(self, record: FrozenTrial) -> bool:
        key = self.key(record)
        elders = (r for r in self.counted() if r.number < record.number or measured(r))
        return any(self.key(r) == key for r in elders if r.number != record.number)


def enqueued(record: FrozenTrial) -> bool:
    """Whether its plan was given to it, and is to be measured whatever the budget says."""
    return "fixed_params" in record.system_attrs


def takers(record: FrozenTrial) -> dict[str, bool]:
    """The processes that took an enqueued trial: SQLite locks no row, so that several may at once."""
    return {key: bool(value) for key, value in record.user_attrs.items() if key.startswith(TAKER)}


def measured(record: FrozenTrial) -> bool:
    """Whether it tells something new: what the sampler asked for again does not."""
    stored: Mapping[str, object] | None = record.user_attrs.get(MEASUREMENT)
    return record.state in _MEASURED and stored is not None
