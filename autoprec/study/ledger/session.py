"""One run of a search on a study: from which trial on it counts, whether it has ended, and who is alive in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from autoprec.errors import UsageError
from autoprec.study.ledger.claims import OWNER
from autoprec.study.ledger.owners import BEAT_S, HUNG_S, Watch, abandoned, beating, elsewhere, label
from autoprec.study.ledger.status import TrialStatus
from autoprec.study.optuna_adapter import fail_trial, is_enqueued

_ENDED = "autoprec:ended"
_FIRST = "autoprec:first"
_LEADER = "autoprec:leader"
_BEAT = "autoprec:beat:"


class Session:
    """What the attributes of a study say of the run that is at work on it.

    Args:
        study: the study.
        process: this process, as `autoprec.study.ledger.owners.own_label` describes it.
        watch: how long processes on other hosts have been silent.
    """

    def __init__(self, study: optuna.Study, process: dict[str, Any], watch: Watch) -> None:
        self._study, self._process, self._watch = study, process, watch
        self._first: int | None = None

    def begin(self, trials: int) -> None:
        """Begin after so many trials; workers that join from now on belong to this session.

        Raises:
            UsageError: another process that is alive leads the study.
        """
        leader = self._study.user_attrs.get(_LEADER)
        if leader and leader != self._process and self.ended() is None and self._lives(leader):
            self._refuse(leader)
        self._study.set_user_attr(_LEADER, self._process)
        leader = self._study.user_attrs.get(_LEADER, {})
        if leader != self._process:  # of two that begin at once, the one that wrote last leads
            self._refuse(leader)
        self._first = trials
        self._study.set_user_attr(_FIRST, trials)
        self._study.set_user_attr(_ENDED, None)

    def _lives(self, leader: Mapping[str, Any]) -> bool:
        """Whether the process that leads the study is at work: the kernel says it, or a sign of life does."""
        if not elsewhere(dict(leader)):
            return not abandoned(dict(leader), None)
        key = _BEAT + label(dict(leader))
        before, until = self._study.user_attrs.get(key), time.monotonic() + 1.5 * BEAT_S
        while time.monotonic() < until:
            time.sleep(BEAT_S / 20)
            if self._study.user_attrs.get(key) != before:
                return True
        return False

    def _refuse(self, leader: Mapping[str, Any]) -> None:
        raise UsageError(
            f"another tune (process {leader.get('pid')} on {leader.get('host')}) leads this very search already; join "
            f"it by `autoprec worker`, wait until it has ended, or keep this one apart by another --storage"
        )

    def end(self, text: str) -> None:
        """Tell the workers why no more plans are wanted."""
        self._study.set_user_attr(_ENDED, text)

    def ended(self) -> str | None:
        """Why no more plans are wanted, None where they are."""
        text: str | None = self._study.user_attrs.get(_ENDED)
        return text

    def first(self) -> int:
        """The number of the session's first trial."""
        if self._first is None:
            self._first = int(self._study.user_attrs.get(_FIRST, 0))
        return self._first

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Give signs of life while the block runs, by which processes on other hosts see that this one is alive."""
        key = _BEAT + label(self._process)
        with beating(lambda count: self._study.set_user_attr(key, count)):
            yield

    def release(self, records: Sequence[FrozenTrial]) -> bool:
        """Fail the running trials of processes that are gone; returns whether there were any."""
        gone = False
        beats: Mapping[str, Any] | None = None
        for record in records:
            owner, silent = record.user_attrs.get(OWNER), None
            if record.state is not TrialState.RUNNING or owner == self._process:
                continue
            if owner is not None and elsewhere(owner):
                beats = self._study.user_attrs if beats is None else beats
                silent = self._watch.silent_s(label(owner), beats.get(_BEAT + label(owner)))
            hangs = (self._watch.silent_s(f"trial {record.number}", "runs") or 0.0) > HUNG_S
            if hangs or abandoned(owner, record.datetime_start, silent):
                gone = True
                # A proposal without an owner was not checked against the limit yet, so nothing of it is owed.
                begun = owner is not None or is_enqueued(record)
                fail_trial(self._study, record, (TrialStatus.KILLED if begun else TrialStatus.DROPPED).attributes)
        return gone
