"""Latency against the baseline: side by side with the baseline's own model wherever that can run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.errors import UsageError
from autoprec.gate.evidence import Evidence, Rounds
from autoprec.gate.gather import rounds_of
from autoprec.gate.verdict import Check, Status
from autoprec.precision import Array
from autoprec.stats.intervals import Interval, mad, median, ratio_of_medians
from autoprec.stats.significance import rank_sum, signed_ranks
from autoprec.timing.race import RACE_THREADS, race_block
from autoprec.timing.race import race as race_of_all

BLOCKS = (3, 12)
"""The fewest and the most blocks of rounds."""
_RACES = 3
ALPHA = 1e-3
"""Latency is asked block after block until it is decided, so one question must be rarer than accuracy's."""
STEADY = 0.05
"""The spread of rounds, and the change of FP32's own latency, up to which two days of one machine compare."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Rounds of two engines, block by block, each round with the fastest run of one turn of each."""

    base_ms: tuple[tuple[float, ...], ...]
    now_ms: tuple[tuple[float, ...], ...]

    @property
    def ratio(self) -> Interval:
        """The median over rounds of the latency now against the other's, with a 95 % interval over blocks."""
        logs = [np.log(np.divide(now, base)) for now, base in zip(self.now_ms, self.base_ms, strict=True)]
        every = np.concatenate(logs)
        generator = np.random.default_rng(0)
        picks = generator.integers(0, len(logs), (1000, len(logs)))
        size = min(map(len, logs))
        inner = generator.integers(0, size, (1000, len(logs), size))
        table = np.stack([log[:size] for log in logs])
        means = np.median(table[picks[:, :, None], inner].reshape(1000, -1), axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(float(np.exp(np.median(every))), float(np.exp(low)), float(np.exp(high)))

    @property
    def p(self) -> float:
        """Of the signed ranks of all rounds."""
        return signed_ranks(np.log(np.divide(np.concatenate(self.now_ms), np.concatenate(self.base_ms))))


Verdict = Literal["slower", "fine", "open"]


def find_rival(committed: Evidence, baseline: Path, given: Path | None, candidate: bytes) -> tuple[bytes, str] | None:
    """The baseline's lowered model, if it is to be had, and where it was found.

    Raises:
        UsageError: the file that was given is another one.
    """
    wanted, recorded = committed.lowered["sha256"], Path(committed.lowered["path"])
    if given is not None:
        if not given.is_file():
            raise UsageError(f"no such file: {given}; give the baseline's lowered model, or leave --baseline-model out")
        data = given.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted:
            raise UsageError(
                f"{given} is not the lowered model of the baseline {baseline}; give the model.onnx of its run"
            )
        return data, str(given)
    if hashlib.sha256(candidate).hexdigest() == wanted:
        return candidate, "the candidate itself, which is the same file"
    for path in (recorded, baseline.parent / recorded):
        if path.is_file() and path.stat().st_size == committed.lowered["bytes"]:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == wanted:
                return data, str(path)
    return None


def race(
    backend: Backend, base: bytes, now: bytes, feed: Mapping[str, Array], allowed: float, threads: int = RACE_THREADS
) -> Paired:
    """Rounds of both models, until it is clear on which side of the bound the candidate is."""
    paired = Paired((), ())
    while len(paired.now_ms) < BLOCKS[1]:
        times = race_block(backend, {"base": base, "now": now}, feed, threads, len(paired.now_ms))
        paired = Paired((*paired.base_ms, times["base"]), (*paired.now_ms, times["now"]))
        if len(paired.now_ms) >= BLOCKS[0] and settled(paired, allowed):
            break
    return paired


def settled(paired: Paired, allowed: float) -> bool:
    """Whether more rounds would hardly change the verdict."""
    ratio, bound = paired.ratio, 1 + allowed
    return ratio.high < bound or (ratio.low > bound and paired.p < ALPHA)


def decide(paired: Paired, allowed: float) -> Verdict:
    """Slower where it is for certain and by more than is allowed; open where the noise hides the bound."""
    ratio, bound = paired.ratio, 1 + allowed
    if ratio.estimate > bound:
        return "slower" if paired.p < ALPHA and ratio.low > 1 + allowed / 2 else "open"
    return "fine" if ratio.high < 1 + 2 * allowed else "open"


def judge_race(
    backend: Backend,
    base: bytes,
    now: bytes,
    feed: Mapping[str, Array],
    allowed: float,
    where: str,
    threads: int = RACE_THREADS,
) -> Check:
    """Interleaved with the baseline's model; an alarm counts when a second, independent race repeats it."""
    verdicts: list[Verdict] = []
    for _ in range(_RACES):
        shown = race(backend, base, now, feed, allowed, threads)
        verdicts.append(decide(shown, allowed))
        if verdicts[-1] == "fine" or verdicts.count(verdicts[-1]) == 2:
            break
    verdict: Verdict = verdicts[-1] if verdicts[-1] == "fine" or verdicts.count(verdicts[-1]) == 2 else "open"
    ratio = shown.ratio
    check = Check(
        name="latency",
        status=Status.FINE,
        baseline=f"{median(np.concatenate(shown.base_ms)):.4g} ms",
        now=f"{median(np.concatenate(shown.now_ms)):.4g} ms",
        change=f"{ratio.estimate - 1:+.1%} ({ratio.low - 1:+.1%} .. {ratio.high - 1:+.1%})",
        allowed=f"+{allowed:.1%}",
        sentence="",
        details=(f"the baseline's model: {where}; CPU threads of each run, where they can be chosen: {threads}",),
    )
    rounds = sum(map(len, shown.now_ms))
    how = f"{ratio.estimate:.3f} of the baseline's latency in {rounds} interleaved rounds"
    if verdict == "slower":
        return replace(
            check,
            status=Status.WORSE,
            sentence=(
                f"{how}, found twice: more than the {allowed:.1%} allowed; see what changed in the model, tune it "
                f"again, or accept it by a new baseline"
            ),
        )
    if verdict == "open":
        return replace(
            check,
            status=Status.CANNOT_JUDGE,
            sentence=(
                f"{how}, but the clocks are too unstable to tell {allowed:.1%}; let no other work run on this machine, "
                f"lock its clocks, or allow more by --max-slowdown"
            ),
        )
    return replace(check, sentence=how)


def judge_record(
    backend: Backend,
    fp32: bytes,
    now: bytes,
    feed: Mapping[str, Array],
    committed: Evidence,
    allowed: float,
    *,
    by_ratio: bool,
) -> Check:
    """Against the rounds of the baseline, which another day measured; only where FP32 says that the days compare.

    Args:
        backend: of the plan.
        fp32: the float model.
        now: the lowered model.
        feed: one batch.
        committed: the baseline's.
        allowed: share of latency.
        by_ratio: compare the plan's share of FP32's latency; else milliseconds, where the runtime changed.
    """
    old, rounds = committed.rounds, measure_rounds(backend, fp32, now, feed)
    why = _not_comparable(old, rounds, by_ratio)
    ratio, p = _against(old, rounds, by_ratio)
    if why is None and _is_worse(ratio, p, allowed):  # an alarm counts when a second measurement repeats it
        rounds = measure_rounds(backend, fp32, now, feed)
        why = _not_comparable(old, rounds, by_ratio)
        ratio, p = _against(old, rounds, by_ratio)
    check = Check(
        name="latency",
        status=Status.CANNOT_JUDGE,
        baseline=f"{median(old.plan_ms):.4g} ms",
        now=f"{median(rounds.plan_ms):.4g} ms",
        change=f"{ratio.estimate - 1:+.1%} ({ratio.low - 1:+.1%} .. {ratio.high - 1:+.1%})",
        allowed=f"+{allowed:.1%}",
        sentence="",
        details=("compared with the baseline's own rounds: its model is not here to run beside",),
    )
    if why is not None:
        return replace(
            check,
            change="-",
            sentence=(
                f"two days cannot be compared: {why}; give the baseline's model.onnx by --baseline-model, then both "
                f"run side by side"
            ),
        )
    worse = _is_worse(ratio, p, allowed)
    what = "share of FP32's latency" if by_ratio else "milliseconds"
    advice = ", found twice; see what changed, tune again, or accept it by a new baseline"
    return replace(
        check,
        status=Status.WORSE if worse else Status.FINE,
        sentence=f"{ratio.estimate:.3f} of the baseline's {what}{advice if worse else ''}",
    )


def measure_rounds(backend: Backend, fp32: bytes, now: bytes, feed: Mapping[str, Array]) -> Rounds:
    """Rounds of FP32 and the plan."""
    return rounds_of(race_of_all(backend, {"fp32": fp32, "plan": now}, feed, BLOCKS[0]))


def the_same(allowed: float) -> Check:
    """The lowered model is the baseline's, byte for byte: a race against itself would only measure the noise."""
    return Check(
        name="latency",
        status=Status.FINE,
        baseline="-",
        now="-",
        change="+0.0%",
        allowed=f"+{allowed:.1%}",
        sentence="the lowered model is the baseline's, byte for byte, so there is nothing that could be slower",
    )


def cannot(why: str, required: bool, allowed: float) -> Check:
    """Latency that nothing here can tell: it counts only where it was asked for."""
    status = Status.CANNOT_JUDGE if required else Status.SKIPPED
    return Check(
        name="latency",
        status=status,
        baseline="-",
        now="-",
        change="-",
        allowed=f"+{allowed:.1%}",
        sentence=f"cannot judge here: {why}",
    )


def _against(old: Rounds, new: Rounds, by_ratio: bool) -> tuple[Interval, float]:
    before, after = _figures(old, by_ratio), _figures(new, by_ratio)
    size = min(len(before), len(after))
    return ratio_of_medians(before[:size], after[:size]), rank_sum(before, after)


def _is_worse(ratio: Interval, p: float, allowed: float) -> bool:
    return ratio.estimate > 1 + allowed and p < ALPHA


def _not_comparable(old: Rounds, new: Rounds, by_ratio: bool) -> str | None:
    """Why milliseconds of another day say nothing here, None where they do."""
    for when, rounds in (("at the time of the baseline", old), ("now", new)):
        spread = max(mad(values) / median(values) for values in (rounds.fp32_ms, _figures(rounds, by_ratio)))
        if spread > STEADY:
            return f"the clocks are unstable, rounds vary by {spread:.0%} {when}"
    moved = median(new.fp32_ms) / median(old.fp32_ms)
    if abs(moved - 1) > (2 * STEADY if by_ratio else STEADY):
        return f"the machine is not as fast as then, FP32 itself takes {moved:.2f} of its time"
    return None


def _figures(rounds: Rounds, by_ratio: bool) -> list[float]:
    if not by_ratio:
        return list(rounds.plan_ms)
    return [plan / fp32 for plan, fp32 in zip(rounds.plan_ms, rounds.fp32_ms, strict=True)]
