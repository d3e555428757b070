"""What a run found, as a record for machines and as lines for people."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from autoprec.drops import Drop
from autoprec.evaluate import Outcome
from autoprec.plan import Choice, Plan
from autoprec.precision import Precision
from autoprec.seeds import FP32_PLAN, PINNED_FP32_PLAN
from autoprec.stats import Interval, paired_bootstrap
from autoprec.studied import fixed_reason, plan_fingerprints, searched_reason
from autoprec.study.latency import Assignment
from autoprec.study.told import Fidelities
from autoprec.study.trials import Trial
from autoprec.tuned import Candidate, Tuned
from autoprec.units.records import Partition

SCHEMA = 1


def summary(tuned: Tuned) -> dict[str, Any]:
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
        "splits": task.splits.words,
        "samples": {part: getattr(task.splits, part).count for part in ("calibrate", "select", "report")},
        "chosen": tuned.chosen,
        "best_uniform": best_uniform,
        "candidates": {name: candidate_record(tuned, candidate) for name, candidate in tuned.candidates.items()},
        "latency_vs_best_uniform": _interval(chosen.latency.ratio_to(tuned.candidates[best_uniform].latency)),
        "clock": task.backend.clock.words,
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
        "spent": dict(tuned.spent),
        "sensitivity_passes_per_entry": tuned.profile.passes_per_entry,
        "winners_curse": None if tuned.curse is None else tuned.curse.to_record(),
        "blocking": None if tuned.blocking is None else tuned.blocking.to_record(),
        "seconds": dict(tuned.seconds),
        "timeout_s": task.settings.timeout_s,
        "left_out": list(tuned.left_out),
        "set_aside": list(tuned.set_aside),
        "machine": task.backend.describe(),
        "notes": list(task.subject.notes),
    }


def models_record(models: Fidelities) -> dict[str, Any]:
    """How well plans were foretold before they were measured, and whether accuracy could be leant on."""
    return {
        "latency": asdict(models.latency),
        "noise": asdict(models.noise),
        "drop": asdict(models.drop),
        "accuracy_trusted": models.drop.trusted,
    }


def candidate_record(tuned: Tuned, candidate: Candidate) -> dict[str, Any]:
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


def throughput_record(tuned: Tuned, candidate: Candidate) -> dict[str, Any]:
    """Samples per second with several batches in flight, and how many times FP32's that is."""
    batch = tuned.task.subject.model.interface.batch_size or tuned.task.settings.batch
    times_fp32 = tuned.candidates[FP32_PLAN].timing.ratio_to(candidate.timing)
    return {
        "samples_per_s": 1e3 * batch / candidate.timing.median_ms, "throughput_vs_fp32": _interval(times_fp32),
    }  # fmt: skip


def latency_bound(tuned: Tuned) -> dict[str, float] | None:
    """The bound on the latency: as a share of FP32's, and in milliseconds where it was given so."""
    if math.isinf(tuned.goal.max_latency):
        return None
    return {"share": tuned.goal.max_latency, **({} if tuned.limit_ms is None else {"ms": tuned.limit_ms})}


def simulation_record(tuned: Tuned) -> dict[str, Any] | None:
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


def report_drop(tuned: Tuned, outcome: Outcome) -> Interval:
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
            "estimate": drop.estimate, "low": drop.low, "high": drop.high, "method": drop.method,
            "samples": drop.samples, "certified": None, "samples_to_certify": None,
        }  # fmt: skip
    return {
        "estimate": drop.estimate, "low": drop.low, "high": drop.high, "method": drop.method, "samples": drop.samples,
        "certified": drop.certifies(bound), "samples_to_certify": drop.samples_to_certify(bound),
    }  # fmt: skip


def verdict(drop: Drop, bound: float) -> str:
    """Whether fresh samples prove that the bound is met, in words."""
    if math.isinf(bound):
        return "no bound on the drop was asked for"
    if drop.certifies(bound):
        return f"certified: the whole interval is within {bound:g}"
    needed = drop.samples_to_certify(bound)
    if needed is None:
        return f"not certified: the estimate itself is not below {bound:g}"
    return f"not certified: about {needed:,} samples would do if the estimate stays, there are {drop.samples:,}"


def best_uniform_of(tuned: Tuned) -> str:
    """The best uniform plan that was free to be chosen and meets the bounds on the selection samples, else FP32."""
    accepted = {tuple(sorted(t.plan.items())): t.measured for t in tuned.found.trials if t.feasible}
    costs = {}
    for name, candidate in tuned.candidates.items():
        measured = accepted.get(tuple(sorted(candidate.plan.items())))
        if name.startswith("uniform") and measured is not None:
            drop, noise = measured.judged_drop, measured.noise
            costs[name] = tuned.goal.cost(drop, candidate.timing.median_ms, candidate.size, noise)
    return min(costs, key=lambda name: costs[name], default=FP32_PLAN)


def mac_share(partition: Partition, plan: Assignment) -> dict[str, float]:
    """Precision -> its share of all multiply-accumulates."""
    total = sum(unit.macs for unit in partition.units) or 1
    shares: dict[str, float] = {}
    for unit in partition.units:
        if unit.macs:
            shares[plan[unit.name].value] = shares.get(plan[unit.name].value, 0.0) + unit.macs / total
    return {name: shares[name] for name in sorted(shares)}


def reason(tuned: Tuned) -> str:
    """Why this plan is the answer, in one sentence."""
    found, goal = tuned.found, tuned.goal
    if not found.feasible:
        return _why_infeasible(tuned)
    chosen, fp32 = tuned.candidates[tuned.chosen], tuned.candidates[FP32_PLAN]
    ratio = chosen.latency.ratio_to(fp32.latency).estimate
    if tuned.chosen in (FP32_PLAN, PINNED_FP32_PLAN):
        pins = tuned.chosen.removeprefix(FP32_PLAN)
        among = f"keep FP32{pins}: of {len(found.trials)} measured plans none within {goal.bounds} was {goal.better}"
        return f"{among} for certain when measured side by side" if goal.timed else among
    among = f"{len(found.trials)} measured plans within {goal.bounds}"
    if goal.objective == "throughput":
        times = fp32.timing.ratio_to(chosen.timing).estimate
        return f"the highest throughput of {among}: {times:.2f} times FP32's, at {ratio:.2f} of its latency"
    if goal.objective == "size":
        share = chosen.size / max(fp32.size, 1)
        return f"the smallest of {among}: {chosen.size:,} bytes, {share:.2f} of FP32's, at {ratio:.2f} of its latency"
    if goal.objective == "accuracy":
        drop = chosen_trial(tuned).measured.judged_drop
        return (
            f"the most accurate of {among}: {chosen.latency.median_ms:.4g} ms, {ratio:.2f} of FP32's latency, where "
            f"{limit_words(tuned)} is allowed; {tuned.task.metric.name} dropped by {drop:.4g} on the selection samples"
        )
    return f"the fastest of {among}: {ratio:.2f} of FP32's latency"


def _why_infeasible(tuned: Tuned) -> str:
    """What came nearest to the bounds, and what to do."""
    measured, name = tuned.found.best.measured, tuned.task.metric.name
    level = tuned.task.settings.confidence
    judged = "" if level is None else f" by the upper end of its {level:.0%} interval"
    blocking = "" if tuned.blocking is None else f"{tuned.blocking.words}; "
    if measured.judged_drop > tuned.goal.max_drop or math.isinf(tuned.goal.max_latency):
        return (
            f"no plan meets {tuned.goal.bounds}: the best found drops {name} by {measured.judged_drop:.4g}{judged} on "
            f"the selection samples, {tuned.task.settings.max_drop:g} is allowed; {blocking}{_way_out(tuned)}"
        )
    chosen = tuned.candidates[tuned.chosen]
    ratio = chosen.latency.ratio_to(tuned.candidates[FP32_PLAN].latency).estimate
    within = "" if math.isinf(tuned.goal.max_drop) else f" within a drop of {tuned.goal.max_drop:g}"
    return (
        f"no plan meets {tuned.goal.bounds}: the fastest found{within} takes {chosen.latency.median_ms:.4g} ms, "
        f"{ratio:.2f} of FP32's latency, {limit_words(tuned)} is allowed; allow more, free pinned units, or offer "
        f"lower precisions by --space"
    )


def limit_words(tuned: Tuned) -> str:
    """The bound on the latency."""
    return f"{tuned.goal.max_latency:.3g} of it" if tuned.limit_ms is None else f"{tuned.limit_ms:g} ms"


def chosen_trial(tuned: Tuned) -> Trial:
    """What the search measured of the answer."""
    plan = dict(tuned.plan)
    return next((t for t in tuned.found.trials if dict(t.plan) == plan), tuned.found.best)


def _way_out(tuned: Tuned) -> str:
    """What would help where no plan meets the bound."""
    subject = tuned.task.subject
    advice = ["allow more"]
    if subject.pinned:
        advice.append("free pinned units")
    if Precision.FP32 not in subject.space.precisions:
        advice.append("add fp32 to the space")
    return f"{', '.join(advice[:-1])} or {advice[-1]}" if len(advice) > 1 else advice[0]


def plan_of(tuned: Tuned) -> Plan:
    """The plan file's content."""
    subject = tuned.task.subject
    task = tuned.task
    quantized = any(p.is_quantized for p in tuned.plan.values())
    units = {
        unit.name: Choice(tuned.plan[unit.name], _unit_reason(tuned, unit.name), unit.name in subject.pinned, unit.key)
        for unit in subject.partition.units
    }
    record = summary(tuned)
    evidence = {key: record[key] for key in (
        "metric", "objective", "max_drop", "max_latency", "feasible", "reason", "verdict", "machine", "splits",
    )}  # fmt: skip
    evidence |= {"chosen": record["candidates"][tuned.chosen], "fp32": record["candidates"][FP32_PLAN]}
    return Plan(
        units, subject.space.carrier, subject.lowerer.scheme.name, task.backend.name,
        plan_fingerprints(task, tuned.ranges), evidence, tuned.ranges.to_record() if quantized else None,
    )  # fmt: skip


def _unit_reason(tuned: Tuned, name: str) -> str:
    subject = tuned.task.subject
    fixed = fixed_reason(subject, name)
    if fixed is not None:
        return fixed
    entries = {p: tuned.profile.entries.get((name, p)) for p in subject.choices[name]}
    noises = {p: entry.noise for p, entry in entries.items() if entry is not None}
    return searched_reason(noises, tuned.plan[name], tuned.chosen, tuned.found.feasible)


def table_rows(tuned: Tuned) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the final table: one row for each candidate."""
    metric = tuned.task.metric
    milliseconds = "ms" if tuned.task.backend.clock.kind == "measured" else "ms, modelled"
    bound = tuned.task.settings.max_drop
    level = tuned.task.settings.level
    bounded = math.isfinite(bound)
    extra = {"throughput": ["samples/s"], "size": ["bytes"]}.get(tuned.goal.objective, [])
    header = [
        "plan", metric.name, f"drop ({100 * level:g} %)", *([f"within {bound:g}"] if bounded else []), "agreement",
        "KL", milliseconds, "vs FP32", *extra, "MACs",
    ]  # fmt: skip
    rows = []
    for name, candidate in tuned.candidates.items():
        record = candidate_record(tuned, candidate)
        drop, ratio = record["estimated_drop"], record["latency_vs_fp32"]
        rows.append(
            [
                f"{name} *" if name == tuned.chosen else name,
                metric.describe(record["score"]),
                f"{drop['estimate']:+.4f} ({drop['low']:+.4f} .. {drop['high']:+.4f})",
                *([_certificate(candidate.drop, bound)] if bounded else []),
                "-" if record["agreement"] is None else f"{record['agreement']:.4f}",
                "-" if record["kl"] is None else f"{record['kl']:.2g}",
                f"{record['latency_ms']:.2f}",
                f"{ratio['estimate']:.3f}",
                *([f"{record['samples_per_s']:,.0f}"] if "samples_per_s" in record else []),
                *([f"{record['bytes']:,}"] if tuned.goal.objective == "size" else []),
                " ".join(f"{share:.0%} {p}" for p, share in record["mac_share"].items()),
            ]
        )
    return header, rows


def _certificate(drop: Drop, bound: float) -> str:
    """Whether fresh samples prove that the bound is met, in a cell."""
    if drop.certifies(bound):
        return "certified"
    needed = drop.samples_to_certify(bound)
    return "no" if needed is None else f"not certified: {needed:,} samples"


def _interval(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
