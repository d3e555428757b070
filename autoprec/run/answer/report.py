"""What a run found, as a JSON record for machines: result.json, and `autoprec tune --json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from autoprec.files.computed_by import release
from autoprec.precision import Precision
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.reasons import passed_over, reason, unlike_decisions, verdict
from autoprec.run.answer.result import TuneResult
from autoprec.run.task import Task
from autoprec.stats.drop import Drop
from autoprec.stats.intervals import Interval
from autoprec.study.guide.proposals import ModelFits
from autoprec.units.shares import mac_share

SCHEMA = 1


def summary(tuned: TuneResult) -> dict[str, Any]:
    """Everything that a run found, as JSON."""
    return {"schema": SCHEMA, **_question(tuned), **_answer(tuned), **_search(tuned), **_rest(tuned)}


def _question(tuned: TuneResult) -> dict[str, Any]:
    """What was asked, and whether and why this is the answer."""
    task = tuned.task
    return {
        "model": str(task.subject.model.path),
        "autoprec": release(),
        "feasible": tuned.found.feasible,
        "reason": reason(tuned),
        "metric": task.metric.name,
        "direction": "higher is better" if task.metric.higher_is_better else "lower is better",
        "objective": tuned.goal.objective,
        **_asked_situations(task),
        "max_drop": task.settings.max_drop,
        "max_latency": _latency_bound(tuned),
        "confidence": task.settings.confidence,
        "verdict": verdict(tuned.answer.drop, task.settings.max_drop),
        "splits": task.splits.text,
        "samples": {part: getattr(task.splits, part).count for part in ("calibrate", "select", "report")},
    }


def _asked_situations(task: Task) -> dict[str, Any]:
    counted, others = task.settings.situation, task.settings.other_situations
    return {} if counted is None else {"situations": {"counted": counted.text, "beside": [s.text for s in others]}}


def _answer(tuned: TuneResult) -> dict[str, Any]:
    """The answer beside its rivals, and what the runtime made of it."""
    versus = tuned.answer.latency.ratio_to(tuned.best_uniform.latency)
    return {
        "chosen": tuned.chosen,
        "best_uniform": tuned.best_uniform.name,
        "passed_over": passed_over(tuned),
        "unlike_decisions": unlike_decisions(tuned),
        "candidates": {name: candidate_record(tuned, candidate) for name, candidate in tuned.candidates.items()},
        "latency_vs_best_uniform": _interval(versus),
        "clock": tuned.task.backend.clock.text,
        "unit": tuned.unit.name,
        "score_fp32": float(tuned.reference_scores.mean()),
        "verification": tuned.verification.to_record(),
        "complaint": tuned.verification.complaint(),
        "simulation": _simulation_record(tuned),
    }


def _search(tuned: TuneResult) -> dict[str, Any]:
    """What the search measured, why it stopped, and how well its models predicted."""
    found = tuned.found
    return {
        "refused_plans": list(found.refused),
        "calibrator": tuned.ranges.method,
        "trials": len(found.trials),
        "measured_by": dict(found.by),
        "not_timed": found.not_timed,
        "judged_in_part": found.judged_in_part,
        "stopped": found.stopped,
        "sampler": tuned.task.settings.sampler,
        "models": models_record(found.models),
        "spent": asdict(tuned.time.spent),
    }


def _rest(tuned: TuneResult) -> dict[str, Any]:
    """What the answer owes to luck, what blocked it, the time, and the machine."""
    task = tuned.task
    return {
        "sensitivity_passes_per_entry": tuned.profile.passes_per_entry,
        "winners_curse": None if tuned.bias is None else tuned.bias.to_record(),
        "blocking": None if tuned.blocking is None else tuned.blocking.to_record(),
        "seconds": dict(tuned.time.seconds),
        "timeout_s": task.settings.timeout_s,
        "left_out": list(tuned.time.left_out),
        "set_aside": list(tuned.set_aside),
        "machine": task.backend.describe(),
        "clock_disturbed": tuned.clock_disturbed,
        "notes": [*task.subject.notes, *task.doubts],
    }


def models_record(models: ModelFits) -> dict[str, Any]:
    """How well plans were predicted before they were measured, and whether the accuracy could be relied on."""
    return {
        "latency": asdict(models.latency),
        "noise": asdict(models.noise),
        "drop": asdict(models.drop),
        "accuracy_trusted": models.drop.trusted,
    }


def candidate_record(tuned: TuneResult, candidate: Candidate) -> dict[str, Any]:
    """One plan on the report samples."""
    outcome, versus = candidate.outcome, candidate.latency.ratio_to(tuned.unit.latency)
    return {
        "score": float(outcome.scores.mean()),
        "finite": outcome.finite,
        "drop": _interval(tuned.counted_drop(candidate)),
        "estimated_drop": _drop_record(candidate.drop, tuned.task.settings.max_drop),
        "agreement": outcome.agreement,
        "kl": outcome.kl,
        "sqnr_db": outcome.sqnr_db,
        "latency_ms": candidate.latency.median_ms,
        "latency_vs_unit": _interval(versus),
        "latency_vs_fp32": _interval(versus) if tuned.goal.unit is Precision.FP32 else None,
        "bytes": candidate.size,
        "mac_share": mac_share(tuned.task.subject.partition, candidate.plan),
        **_situations_record(tuned, candidate),
        **(_throughput_record(tuned, candidate) if tuned.goal.objective == "throughput" else {}),
    }


def _situations_record(tuned: TuneResult, candidate: Candidate) -> dict[str, Any]:
    """The latency in each situation that the user named; nothing where none was named."""
    counted = tuned.task.settings.situation
    if counted is None:
        return {}
    times = {counted.name: (candidate.latency, tuned.unit.latency)}
    times |= {name: (timing, tuned.unit.elsewhere[name]) for name, timing in candidate.elsewhere.items()}
    return {
        "situations": {
            name: {"latency_ms": timing.median_ms, "latency_vs_unit": _interval(timing.ratio_to(unit))}
            for name, (timing, unit) in times.items()
        }
    }


def _throughput_record(tuned: TuneResult, candidate: Candidate) -> dict[str, Any]:
    """Samples per second with several batches in flight, and how many times those of the clock's unit that is."""
    times = _interval(tuned.unit.timing.ratio_to(candidate.timing))
    known = tuned.goal.unit is Precision.FP32
    return {
        "samples_per_s": tuned.samples_per_s(candidate),
        "throughput_vs_unit": times,
        "throughput_vs_fp32": times if known else None,
    }


def _latency_bound(tuned: TuneResult) -> dict[str, float] | None:
    """The bound on the latency: as a share of the clock's unit, and in milliseconds where it was given so."""
    if math.isinf(tuned.goal.max_latency):
        return None
    return {"share": tuned.goal.max_latency, **({} if tuned.limit_ms is None else {"ms": tuned.limit_ms})}


def _simulation_record(tuned: TuneResult) -> dict[str, Any] | None:
    """The engine's score against that of exact arithmetic, and whether they certainly differ."""
    if tuned.simulated is None:
        return None
    apart = tuned.engine_minus_exact
    if apart is None:
        return {"score": None, "differs": tuned.differs_from_exact}
    score = float(tuned.simulated.scores.mean())
    return {"score": score, "engine_minus": _interval(apart), "differs": tuned.differs_from_exact}


def _drop_record(drop: Drop, bound: float) -> dict[str, Any]:
    """The estimate, its interval, and whether it certifies the bound or how many samples would."""
    bounded = math.isfinite(bound)
    return {
        "estimate": drop.estimate,
        "low": drop.low,
        "high": drop.high,
        "method": drop.method,
        "samples": drop.samples,
        "certified": drop.certifies(bound) if bounded else None,
        "samples_to_certify": drop.samples_to_certify(bound) if bounded else None,
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
