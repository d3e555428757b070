"""The check of the latency: side by side with the baseline's own model if that is available."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoprec.errors import UsageError
from autoprec.gate import duel
from autoprec.gate.duel import ALPHA, BLOCKS, Arena, Paired, RaceVerdict
from autoprec.gate.evidence import Evidence, Rounds
from autoprec.gate.gather import rounds_of
from autoprec.gate.verdict import Check, Status
from autoprec.graph.written import is_written, read_message, written
from autoprec.stats.intervals import Interval, mad, median, ratio_of_medians
from autoprec.stats.significance import rank_sum
from autoprec.timing.race import race as race_of_all

_RACES = 3
STEADY = 0.05
"""The largest share by which rounds may vary, and by which FP32's own latency may differ, if two days are compared."""


def find_rival(committed: Evidence, baseline: Path, given: Path | None, candidate: bytes) -> tuple[bytes, str] | None:
    """Return the baseline's lowered model and where it was found, or None if it is not available.

    Args:
        committed: the evidence of the baseline.
        baseline: the path of the baseline.
        given: the path that the user gave, or None.
        candidate: the lowered model that is judged, which may be the same one.

    Raises:
        UsageError: the file that the user gave is missing, or it is another model.
    """
    size, wanted, recorded = (committed.lowered[key] for key in ("bytes", "sha256", "path"))
    same, recorded = written(candidate) == (size, wanted), Path(recorded)
    if given is not None:
        if not given.is_file():
            raise UsageError(f"no such file: {given}; give the baseline's lowered model, or leave --baseline-model out")
        if not is_written(given, size, wanted):
            raise UsageError(
                f"{given} is not the lowered model of the baseline {baseline}; give the model.onnx of its run"
            )
        return (candidate if same else read_message(given)), str(given)
    if same:
        return candidate, "the candidate itself, which is the same file"
    found = (path for path in (recorded, baseline.parent / recorded) if is_written(path, size, wanted))
    return next(((read_message(path), str(path)) for path in found), None)


def judge_race(arena: Arena, base: bytes, now: bytes, allowed: float, where: str) -> Check:
    """Race against the baseline's model; an alarm only counts when a second, independent race repeats it.

    Args:
        arena: the place where the models are raced.
        base: the baseline's lowered model, serialised.
        now: the lowered model that is judged.
        allowed: the share of the latency that it may be slower by.
        where: the place where the baseline's model was found, for people.
    """
    verdicts: list[RaceVerdict] = []
    for _ in range(_RACES):
        shown = duel.race(arena, base, now, allowed)
        verdicts.append(duel.decide(shown, allowed))
        if verdicts[-1] is RaceVerdict.FINE or verdicts.count(verdicts[-1]) == 2:
            return _judged_race(shown, verdicts[-1], arena, allowed, where)
    return _judged_race(shown, RaceVerdict.OPEN, arena, allowed, where)


def _judged_race(shown: Paired, verdict: RaceVerdict, arena: Arena, allowed: float, where: str) -> Check:
    rounds = sum(map(len, shown.now_ms))
    how = f"{shown.ratio.estimate:.3f} of the baseline's latency in {rounds} interleaved rounds"
    status, sentence = Status.FINE, how
    if verdict is RaceVerdict.SLOWER:
        status = Status.WORSE
        sentence = (
            f"{how}, in two measurements: more than the {allowed:.1%} allowed; see what changed in the model, tune it "
            f"again, or accept it by a new baseline"
        )
    elif verdict is RaceVerdict.OPEN:
        status = Status.CANNOT_JUDGE
        sentence = (
            f"{how}, but the timings vary too much to judge {allowed:.1%}; let no other work run on this machine, "
            f"lock its clocks, or allow more by --max-slowdown"
        )
    return Check(
        name="latency",
        status=status,
        baseline=f"{median(np.concatenate(shown.base_ms)):.4g} ms",
        now=f"{median(np.concatenate(shown.now_ms)):.4g} ms",
        change=_change(shown.ratio),
        allowed=f"+{allowed:.1%}",
        sentence=sentence,
        details=(f"the baseline's model: {where}; CPU threads of each run, where they can be chosen: {arena.threads}",),
    )


def judge_recorded(
    arena: Arena, fp32: bytes, now: bytes, committed: Rounds, allowed: float, *, by_ratio: bool
) -> Check:
    """Compare with the rounds that the baseline recorded on another day.

    This is done only if the latency of FP32 shows that the two days can be compared.

    Args:
        arena: the place where both models are raced.
        fp32: the float model, serialised.
        now: the lowered model that is judged.
        committed: the baseline's rounds.
        allowed: the share of the latency that it may be slower by.
        by_ratio: whether the plan's share of FP32's latency is compared. If the runtime changed, that share has no
            meaning, and milliseconds are compared.
    """
    rounds = measure_rounds(arena, fp32, now)
    why = _not_comparable(committed, rounds, by_ratio)
    if why is None and _is_worse(*_against(committed, rounds, by_ratio), allowed):
        rounds = measure_rounds(arena, fp32, now)  # an alarm only counts when a second measurement repeats it
        why = _not_comparable(committed, rounds, by_ratio)
    ratio, p = _against(committed, rounds, by_ratio)
    status, sentence = _recorded_verdict(ratio, worse=_is_worse(ratio, p, allowed), by_ratio=by_ratio)
    if why is not None:
        status = Status.CANNOT_JUDGE
        sentence = (
            f"the timings of the baseline cannot be compared with those of today: {why}; give the baseline's "
            f"model.onnx by --baseline-model, and both are timed side by side"
        )
    return Check(
        name="latency",
        status=status,
        baseline=f"{median(committed.plan_ms):.4g} ms",
        now=f"{median(rounds.plan_ms):.4g} ms",
        change=_change(ratio) if why is None else "-",
        allowed=f"+{allowed:.1%}",
        sentence=sentence,
        details=(
            "compared with the timings stored in the baseline, as its model is not here to be timed side by side",
        ),
    )


def _recorded_verdict(ratio: Interval, *, worse: bool, by_ratio: bool) -> tuple[Status, str]:
    what = "share of FP32's latency" if by_ratio else "milliseconds"
    found = f"{ratio.estimate:.3f} of the baseline's {what}"
    if worse:
        return (
            Status.WORSE,
            f"{found}, in two measurements; see what changed, tune again, or accept it by a new baseline",
        )
    return Status.FINE, found


def _change(ratio: Interval) -> str:
    return f"{ratio.estimate - 1:+.1%} ({ratio.low - 1:+.1%} .. {ratio.high - 1:+.1%})"


def measure_rounds(arena: Arena, fp32: bytes, now: bytes) -> Rounds:
    """Race FP32 and the plan for the fewest blocks and on `RACE_THREADS` threads, as every baseline records them."""
    return rounds_of(race_of_all(arena.backend, {"fp32": fp32, "plan": now}, arena.feed, BLOCKS[0]))


def the_same(allowed: float) -> Check:
    """Return the check of a model that is the baseline's, byte for byte. A race would only measure noise."""
    return Check(
        name="latency",
        status=Status.FINE,
        baseline="-",
        now="-",
        change="+0.0%",
        allowed=f"+{allowed:.1%}",
        sentence="the lowered model is identical to the baseline's, byte for byte, so it cannot be slower",
    )


def cannot(why: str, required: bool, allowed: float) -> Check:
    """Return the check of a latency that cannot be judged here, which counts only if the user requires it."""
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
    if old.unit != new.unit:
        return f"the latencies of the baseline are beside {old.unit}, of which no engine is built here"
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
