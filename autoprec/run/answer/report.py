"""What a run found, as a record for machines and as lines for people."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from autoprec.metrics.evaluator import Outcome
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.reasons import reason, verdict
from autoprec.run.answer.result import TuneResult
from autoprec.run.uniform import FP32_PLAN
from autoprec.stats.drop import Drop
from autoprec.stats.intervals import Interval, paired_bootstrap
from autoprec.study.guide.proposals import ModelFits
from autoprec.units.shares import mac_share

SCHEMA = 1


def summary(tuned: TuneResult) -> dict[str, Any]:
    """Everything a run found, as JSON."""
    task, chosen = tuned.task, tuned.candidates[tuned.chosen]
    best_uniform = best_uniform_of(tuned)
    model = task.subject.model
    return {
        "schema": SCHEMA,
        "model": str(model.path),
        "feasible": tuned.found.feasible,
        "reason": reason(tuned),
        "metric": task.metric.name,
        "direction": "higher is better" if task.metric.higher_is_better else "lower is better",
        "objective": tuned.goal.objective,
        "max_drop": task.settings.max_drop,
        "max_latency": latency_bound(tuned),
        "confidence": task.settings.confidence,
        "verdict": verdict(chosen.drop, task.settings.max_drop),
        "splits": task.splits.text,
        "samples": {part: getattr(task.splits, part).count for part in ("calibrate", "select", "report")},
        "chosen": tuned.chosen,
        "best_uniform": best_uniform,
        "candidates": {name: candidate_record(tuned, candidate) for name, candidate in tuned.candidates.items()},
        "latency_vs_best_uniform": _interval(chosen.latency.ratio_to(tuned.candidates[best_uniform].latency)),
        "clock": task.backend.clock.text,
        "verification": tuned.verification.to_record(),
        "complaint": tuned.verification.complaint(),
        "simulation": simulation_record(tuned),
        "refused_plans": list(tuned.found.refused),
        "calibrator": tuned.ranges.method,
        "trials": len(tuned.found.trials),
        "measured_by": dict(tuned.found.by),
        "not_timed": sum(not trial.measured.timed for trial in tuned.found.trials),
        "judged_in_part": sum(trial.measured.samples is not None for trial in tuned.found.trials),
        "stopped": tuned.found.stopped,
        "sampler": task.settings.sampler,
        "models": models_record(tuned.found.models),
        "spent": asdict(tuned.time.spent),
        "sensitivity_passes_per_entry": tuned.profile.passes_per_entry,
        "winners_curse": None if tuned.bias is None else tuned.bias.to_record(),
        "blocking": None if tuned.blocking is None else tuned.blocking.to_record(),
        "seconds": dict(tuned.time.seconds),
        "timeout_s": task.settings.timeout_s,
        "left_out": list(tuned.time.left_out),
        "set_aside": list(tuned.set_aside),
        "machine": task.backend.describe(),
        "notes": list(task.subject.notes),
    }


def models_record(models: ModelFits) -> dict[str, Any]:
    """How well plans were foretold before they were measured, and whether accuracy could be leant on."""
    return {
        "latency": asdict(models.latency),
        "noise": asdict(models.noise),
        "drop": asdict(models.drop),
        "accuracy_trusted": models.drop.trusted,
    }


def candidate_record(tuned: TuneResult, candidate: Candidate) -> dict[str, Any]:
    """One plan on the report samples."""
    outcome = candidate.outcome
    drop = report_drop(tuned, outcome)
    return {
        "score": float(outcome.scores.mean()),
        "drop": _interval(drop),
        "estimated_drop": drop_record(candidate.drop, tuned.task.settings.max_drop),
        "agreement": outcome.agreement,
        "kl": outcome.kl,
        "sqnr_db": outcome.sqnr_db,
        "latency_ms": candidate.latency.median_ms,
        "latency_vs_fp32": _interval(candidate.latency.ratio_to(tuned.candidates[FP32_PLAN].latency)),
        "bytes": candidate.size,
        "mac_share": mac_share(tuned.task.subject.partition, candidate.plan),
        **(throughput_record(tuned, candidate) if tuned.goal.objective == "throughput" else {}),
    }


def throughput_record(tuned: TuneResult, candidate: Candidate) -> dict[str, Any]:
    """Samples per second with several batches in flight, and how many times FP32's that is."""
    batch = tuned.task.subject.model.interface.batch_size or tuned.task.settings.batch
    times_fp32 = tuned.candidates[FP32_PLAN].timing.ratio_to(candidate.timing)
    return {
        "samples_per_s": 1e3 * batch / candidate.timing.median_ms,
        "throughput_vs_fp32": _interval(times_fp32),
    }


def latency_bound(tuned: TuneResult) -> dict[str, float] | None:
    """The bound on the latency: as a share of FP32's, and in milliseconds where it was given so."""
    if math.isinf(tuned.goal.max_latency):
        return None
    return {"share": tuned.goal.max_latency, **({} if tuned.limit_ms is None else {"ms": tuned.limit_ms})}


def simulation_record(tuned: TuneResult) -> dict[str, Any] | None:
    """The engine's score against that of exact arithmetic, and whether they differ for certain."""
    if tuned.simulated is None:
        return None
    engine, exact = tuned.candidates[tuned.chosen].outcome, tuned.simulated
    if not (engine.finite and exact.finite):
        return {"score": None, "differs": engine.finite != exact.finite}
    apart = paired_bootstrap(
        exact.scores, engine.scores, tuned.task.metric.higher_is_better, seed=tuned.task.settings.seed
    )
    differs = not apart.low <= 0 <= apart.high
    return {"score": float(exact.scores.mean()), "engine_minus": _interval(apart), "differs": differs}


def report_drop(tuned: TuneResult, outcome: Outcome) -> Interval:
    """The drop on the report samples with its 95 % paired bootstrap interval."""
    if not outcome.finite:
        return Interval(math.inf, math.inf, math.inf)
    return paired_bootstrap(
        tuned.reference_scores, outcome.scores, tuned.task.metric.higher_is_better, seed=tuned.task.settings.seed
    )


def drop_record(drop: Drop, bound: float) -> dict[str, Any]:
    """The estimate, its interval, and whether it certifies the bound or how many samples would."""
    if math.isinf(bound):  # there is nothing to certify
        return {
            "estimate": drop.estimate,
            "low": drop.low,
            "high": drop.high,
            "method": drop.method,
            "samples": drop.samples,
            "certified": None,
            "samples_to_certify": None,
        }
    return {
        "estimate": drop.estimate,
        "low": drop.low,
        "high": drop.high,
        "method": drop.method,
        "samples": drop.samples,
        "certified": drop.certifies(bound),
        "samples_to_certify": drop.samples_to_certify(bound),
    }


def best_uniform_of(tuned: TuneResult) -> str:
    """The best uniform plan that was free to be chosen and meets the bounds on the selection samples, else FP32."""
    accepted = {tuple(sorted(t.plan.items())): t.measured for t in tuned.found.trials if t.feasible}
    costs = {}
    for name, candidate in tuned.candidates.items():
        measured = accepted.get(tuple(sorted(candidate.plan.items())))
        if candidate.uniform and measured is not None:
            drop, noise = measured.judged_drop, measured.noise
            costs[name] = tuned.goal.cost(drop, candidate.timing.median_ms, candidate.size, noise)
    return min(costs, key=lambda name: costs[name], default=FP32_PLAN)


def _interval(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
