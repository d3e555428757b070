"""How a run divides its time: what each stage may take, what the last ones will need, and what was left out for it.

Nothing is known of the machine beforehand, and other work may slow it down at any moment, so every figure is one that
this run has measured itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from autoprec.data.splits import FEWEST
from autoprec.run.spent import Spent
from autoprec.timing.compare import turn_s
from autoprec.timing.race import race_s

RANGES_SHARE, _SENSITIVITY_SHARE = 0.2, 0.2
"""The share of the time left when a stage begins that the stage may take."""
_WITHIN_RANGES = {"ranges": 0.4, "calibrators": 0.45, "calibrator": 0.6, "calibrator of each value": 0.8}
_HOPE = 4.0
"""Sensitivities that are expected to take up to this many times the seconds that they may take are begun all the same,
and cut when these are over: on a busy machine the expectation is often wrong by more than that."""
_RUN_SHARE = 0.02
"""One run of samples may take this share of the time that is left, as nothing ends it in its midst."""
_EVALUATED_SHARE, _LEAST_PASSES, _LEAST_RUNS = 0.4, 6, 50
"""The least of a run is six passes over one half (FP32 over both halves to balance them, and FP32 and one plan over
both) and 50 timed runs of a batch. Together they may take at most 40 % of the time that is left."""
_REBUILT_FACTOR, _REBUILT_SHARE = 4.0, 0.4
"""Building finalists by usual settings takes about this many times the first quick build, as other kernels are timed:
11 and more than 30 s for ResNet-56 on an H100. It may take this share of what is left for the search."""
_REBUILT_KNOWN_FACTOR, _REBUILT_KNOWN_SHARE = 1.5, 0.6
"""The same once an engine was built by usual settings, which has had these kernels timed."""
_GIVEN = 0.05
_COMFORT = 0.15
"""Confirming more plans than the least possible may take at most this share of the whole time."""
_ENDING_S = 0.6  # seconds to write the files, to free the engines and to end the process
_SLACK = 1.15  # other work may slow the machine down after the figures were measured
_REOPENED = 1.5
"""Opening a kept engine again may take this many times as long as the quickest one took."""
CONFIRM_TURN_MS = 60.0
"""The least milliseconds of one engine's turn when finalists are confirmed."""
LEAST_ROUNDS, USUAL_ROUNDS, MOST_ROUNDS = 5, 9, 25
"""The rounds that confirming makes: where time is short, where there is enough, and where ratios are uncertain."""


@dataclass(kw_only=True)
class Budget:
    """The time of one run.

    Attributes:
        deadline: the deadline of the whole run.
        sample_s: FP32's seconds for one sample; 0 while unknown.
        batch_ms: FP32's milliseconds for one timed batch; 0 while unknown.
        build_s: mean seconds to lower and build a plan, and to open it again where engines are kept; 0 while unknown.
        plan_s: mean seconds that a plan of the search took; 0 while unknown.
        threads: the number of CPU threads of a run.
        ending_reserve_s: the seconds that are kept for what comes after the builds.
        rebuild_s: the seconds that are kept for building finalists by the builder's usual settings.
        left_out: one phrase for each thing that there was no time for.
    """

    deadline: Deadline
    ending_reserve_s: float = _ENDING_S
    rebuild_s: float = 0.0
    sample_s: float = 0.0
    batch_ms: float = 0.0
    build_s: float = 0.0
    plan_s: float = 0.0
    threads: int = 1
    left_out: list[str] = field(default_factory=list)

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self.deadline.total_s)

    def known_sample(self, seconds: float, batch: int) -> None:
        """Take over the seconds that FP32 needs for a sample, and for a batch until batches are timed.

        Args:
            seconds: the seconds of a sample.
            batch: the samples of a timed batch; 0 where other hardware times them, so that these say nothing of it.
        """
        self.sample_s, self.batch_ms = seconds, 1e3 * seconds * batch

    @property
    def ending_s(self) -> float:
        """The seconds that are left for a race of the answer once the files are written; infinite without a limit."""
        if not self.limited:
            return math.inf
        return max(self.deadline.left_s - self.build_s - _ENDING_S, 0.0)

    @property
    def build_left_s(self) -> float:
        """The seconds after which a build is cancelled, so that what is known can still be confirmed and reported."""
        return self.deadline.left_s - self.ending_reserve_s if self.limited else math.inf

    @property
    def run_samples(self) -> int | None:
        """The most samples of one run, None for any number."""
        if not self.limited or self.sample_s <= 0:
            return None
        return max(int(_RUN_SHARE * self.deadline.left_s / self.sample_s), 1)

    def keep_rebuilding(self, quick_s: float, *, kernels_known: bool = False) -> None:
        """Keep the time for building finalists by usual settings, where that leaves enough for the search.

        Args:
            quick_s: the seconds that the first engine took by quick settings, which had most kernels to time.
            kernels_known: whether most kernels of usual settings are timed by now.
        """
        factor, share = _REBUILT_FACTOR, _REBUILT_SHARE
        if kernels_known:
            factor, share = _REBUILT_KNOWN_FACTOR, _REBUILT_KNOWN_SHARE
        self.rebuild_s = factor * quick_s if factor * quick_s <= share * self.deadline.left_s else 0.0

    def leave_out(self, text: str) -> None:
        """Note what there was no time for, once."""
        if text not in self.left_out:
            self.left_out.append(text)

    def most_samples(self) -> float:
        """Return for how many samples of each half there is time; it is infinite without a limit."""
        if not self.limited or self.sample_s <= 0:
            return math.inf
        seconds = _EVALUATED_SHARE * self.deadline.left_s - _LEAST_RUNS * 1e-3 * self.batch_ms
        return max(seconds / (_LEAST_PASSES * self.sample_s), FEWEST)

    def confirming_s(self, plans: int, judged: int, samples: int, rounds: int) -> float:
        """Return about how many seconds it takes to confirm and report.

        Args:
            plans: the number of plans that are timed side by side, including FP32.
            judged: the number of them that are judged on fresh samples, including FP32.
            samples: the number of samples to judge them on.
            rounds: the number of rounds in which they are timed.
        """
        clock = rounds * plans * turn_s(self.batch_ms, CONFIRM_TURN_MS)
        # All plans but FP32 are built, and the answer is built once more to verify it and lowered again to write it.
        return _SLACK * (clock + (plans + 1) * self.build_s + judged * samples * self.sample_s) + _ENDING_S

    def reserve_s(self, plans: int, judged: int, samples: int) -> float:
        """Return how many seconds the search must leave for confirming and reporting; 0 without a limit."""
        if not self.limited:
            return 0.0
        least = self.least_s(samples)
        usual = self.confirming_s(plans, judged + 2, samples, USUAL_ROUNDS) + race_s(2 * self.batch_ms, self.threads)
        return least + min(usual - least, _COMFORT * self.deadline.total_s)

    def least_s(self, samples: int) -> float:
        """Return how many seconds it takes to confirm one plan together with FP32 and a uniform rival."""
        return self.confirming_s(3, 3, samples, LEAST_ROUNDS)

    def out_of_time(self, reserve_s: float = 0.0) -> bool:
        """Return whether another plan of the search would need some of the last `reserve_s` seconds."""
        return self.limited and self.deadline.left_s < reserve_s + self.plan_s

    def must_end(self, samples: int) -> bool:
        """Return whether what is under way must be given up, so that one plan can still be confirmed.

        Half of the tenth by which a limit may be missed is given to it, as what is under way may be the first plan.

        Args:
            samples: the number of samples to confirm on.
        """
        return self.limited and self.deadline.left_s < self.least_s(samples) - _GIVEN * self.deadline.total_s

    def affordable(self, judged: int, timed: int, samples: int) -> int:
        """Return on how many of the samples plans can be judged in the time that is left.

        Args:
            judged: the number of plans that are judged.
            timed: the number of plans that are timed side by side.
            samples: the number of samples that there are.
        """
        if not self.limited or self.sample_s <= 0:
            return samples
        seconds = self.deadline.left_s - self.confirming_s(timed, judged, 0, LEAST_ROUNDS)
        return int(min(max(seconds / (_SLACK * judged * self.sample_s), min(FEWEST, samples)), samples))

    def learn(self, spent: Spent, *, keeps_engines: bool, cancels: bool = False) -> None:
        """Take over what the plans of the search have cost so far.

        Args:
            spent: the costs.
            keeps_engines: whether an engine that was built once is opened again without a build.
            cancels: whether builds are cancelled where the time is up, so that the next one may be begun at any time.
        """
        if spent.plans:
            # Profiling has built the uniform plans, so the search itself has opened some kept engines already.
            again_s = _REOPENED * spent.least_build_s
            self.build_s = again_s if keeps_engines else spent.build_s / spent.plans
            self.plan_s = (spent.build_s * (not cancels) + spent.evaluate_s + spent.clock_s) / spent.plans
            self.sample_s = max(self.sample_s, spent.evaluate_s / max(spent.samples, 1))
        self.batch_ms = max(self.batch_ms, spent.batch_ms)

    def profiled(self, counts: list[int], entries: int, fixed_s: float, samples: int) -> int | None:
        """Return on how many samples sensitivities may be measured.

        Args:
            counts: the numbers of samples to choose from, the largest first.
            entries: the number of entries to measure: units times precisions.
            fixed_s: the seconds that an entry takes in addition to its samples.
            samples: the number of samples of each half that later stages need at least.

        Returns:
            One of the counts, the smallest where it may be just too many; None if there is no hope for it either.
        """
        # An entry costs about half a pass: what lies before the unit is not computed again.
        seconds = self.sensitivity_s(samples)
        costs = {count: entries * (fixed_s + 0.5 * self.sample_s * count) for count in counts}
        hoped = counts[-1] if costs[counts[-1]] <= _HOPE * seconds else None
        return next((count for count in counts if costs[count] <= seconds), hoped)

    def sensitivity_s(self, samples: int) -> float:
        """Return the seconds after which the measurement of sensitivities ends with what is known.

        Args:
            samples: the number of samples of each half that later stages need at least.
        """
        needed = self.least_s(samples) + 2 * samples * self.sample_s + 2 * LEAST_ROUNDS * turn_s(self.batch_ms, 0.0)
        return min(_SENSITIVITY_SHARE * self.deadline.left_s, 0.6 * (self.deadline.left_s - needed))


class RangesTime:
    """Says when the calibration must leave out what is left of a step, as it may take a share of the run's time.

    Args:
        deadline: the deadline of the whole run.

    Attributes:
        cut_short: whether anything was left out so far.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline.share(RANGES_SHARE)
        self.cut_short = False

    def is_up(self, step: str, share: float) -> bool:
        """Whether to stop this step, of which `share` is done, and to go on with what is known."""
        up = self._deadline.spent(_WITHIN_RANGES.get(step, 1.0))
        self.cut_short = self.cut_short or (up and share < 1.0)
        return up

    def is_over(self) -> bool:
        """Whether to leave a step in its midst, as the whole share is used up."""
        over = self._deadline.spent()
        self.cut_short = self.cut_short or over
        return over


class Deadline:
    """How much of a time budget is left.

    Args:
        seconds: the budget, None for no limit.
        elapsed_s: what of it was used before now.
        clock: gives seconds that never go back; by default those of this machine.
    """

    def __init__(self, seconds: float | None, elapsed_s: float = 0.0, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or _monotonic
        self._start = self._clock() - elapsed_s
        self._seconds = seconds

    def share(self, share: float) -> Deadline:
        """A budget of its own that begins now: that share of what is left."""
        return self.within(share * self.left_s)

    def within(self, seconds: float) -> Deadline:
        """A budget of its own that begins now: that many seconds; none where this one has no limit."""
        return Deadline(None if self._seconds is None else max(seconds, 0.0), clock=self._clock)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the budget began."""
        return self._clock() - self._start

    @property
    def total_s(self) -> float:
        """The whole budget; infinite without a limit."""
        return float("inf") if self._seconds is None else self._seconds

    @property
    def left_s(self) -> float:
        """Seconds left; infinite without a limit."""
        return float("inf") if self._seconds is None else self._seconds - self.elapsed_s

    def spent(self, share: float = 1.0) -> bool:
        """Whether `share` of the budget is used up."""
        return self._seconds is not None and self.elapsed_s >= share * self._seconds


def _monotonic() -> float:
    return time.monotonic()
