"""Says in sentences why a plan is the answer, and whether it certainly meets the bound."""

from __future__ import annotations

import math

from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.precision import Precision
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.result import TuneResult
from autoprec.run.uniform import FP32_PLAN, PINNED_FP32_PLAN
from autoprec.stats.drop import Drop
from autoprec.study.trial import Trial

_ALIKE = 0.9
"""Of fewer equal decisions than this share the user is told, however alike the outputs are by another figure."""


def verdict(drop: Drop, bound: float) -> str:
    """Whether held-out samples prove that the bound is met, as a sentence."""
    if math.isinf(drop.estimate):
        return "not certified: the outputs hold NaN or infinity, so no score can be trusted"
    if math.isinf(bound):
        return "no bound on the drop was asked for"
    if drop.certifies(bound):
        return f"certified: the whole confidence interval is within {bound:g}"
    needed = drop.samples_to_certify(bound)
    if needed is None:
        return f"not certified: the estimate itself is not below {bound:g}"
    return f"not certified: that would take about {needed:,} samples at this estimate, and there are {drop.samples:,}"


def reason(tuned: TuneResult) -> str:
    """Why this plan is the answer, in one sentence."""
    found, goal = tuned.found, tuned.goal
    if not found.feasible:
        return _why_infeasible(tuned)
    chosen, unit, text = tuned.answer, tuned.unit, goal.unit_text
    ratio = chosen.latency.ratio_to(unit.latency).estimate
    if tuned.chosen in (FP32_PLAN, PINNED_FP32_PLAN, unit.name):
        pins = "" if tuned.chosen == unit.name else tuned.chosen.removeprefix(FP32_PLAN)
        given = text if tuned.chosen == unit.name else "FP32"
        if given == "FP32" and tuned.task.subject.partition.sources:
            given = "the model as it is"
        surely = "certainly " if goal.timed else ""
        among = f"of {len(found.trials)} measured plans, none is both within {goal.bounds} and {surely}{goal.better}"
        return f"keep {given}{pins}: {among if len(found.trials) > 1 else 'no other plan was measured'}"
    among = f"within {goal.bounds}, of {len(found.trials)} measured plans"
    if isinstance(chosen.plan, BuildersChoice):
        among += " and the builder's own choice of precisions; it is the builder's"
    if goal.objective == "throughput":
        times = unit.timing.ratio_to(chosen.timing).estimate
        return f"the highest throughput {among}: {times:.2f} times {text}'s, at {ratio:.2f} of its latency"
    if goal.objective == "size":
        share = chosen.size / max(unit.size, 1)
        return f"the smallest {among}: {chosen.size:,} bytes, {share:.2f} of {text}'s, at {ratio:.2f} of its latency"
    if goal.objective == "accuracy":
        drop = chosen_trial(tuned).measured.judged_drop
        return (
            f"the most accurate {among}: {chosen.latency.median_ms:.4g} ms, {ratio:.2f} of {text}'s latency, where "
            f"{limit_text(tuned)} is allowed; drop of {tuned.task.metric.name} on the selection samples: {drop:.4g}"
        )
    return f"the fastest {among}: {ratio:.2f} of {text}'s latency"


def _why_infeasible(tuned: TuneResult) -> str:
    """Which plan came nearest to the bounds, and what the user can do."""
    measured, name = tuned.found.best.measured, tuned.task.metric.name
    if not tuned.answer.outcome.finite:
        return _not_finite(tuned)
    level = tuned.task.settings.confidence
    judged = "" if level is None else f" (upper end of its {level:.0%} confidence interval)"
    blocking = "" if tuned.blocking is None else f"{tuned.blocking.text}; "
    if measured.judged_drop > tuned.goal.max_drop or math.isinf(tuned.goal.max_latency):
        return (
            f"no plan meets {tuned.goal.bounds}: the smallest drop of {name} on the selection samples is "
            f"{measured.judged_drop:.4g}{judged}, and {tuned.task.settings.max_drop:g} is allowed; "
            f"{blocking}{_way_out(tuned)}"
        )
    chosen = tuned.candidates[tuned.chosen]
    ratio = chosen.latency.ratio_to(tuned.unit.latency).estimate
    within = "" if math.isinf(tuned.goal.max_drop) else f" within a drop of {tuned.goal.max_drop:g}"
    return (
        f"no plan meets {tuned.goal.bounds}: the fastest found{within} takes {chosen.latency.median_ms:.4g} ms, "
        f"{ratio:.2f} of {tuned.goal.unit_text}'s latency, and {limit_text(tuned)} is allowed; allow more by "
        f"--max-latency, free pinned units, or offer lower precisions by --space"
    )


def _not_finite(tuned: TuneResult) -> str:
    """That the outputs of the best plan are worthless, and what the user can do."""
    answer = tuned.answer
    where = " in exact arithmetic (this runtime computes them in FP32 instead)" if answer.overflows else ""
    low = sorted({precision.value for precision in answer.plan.values() if precision is not Precision.FP32})
    return (
        f"no plan meets {tuned.goal.bounds}: {answer.name} came nearest in the search, but its outputs on the held-out "
        f"samples hold NaN or infinity{where}; values that overflow in {' or '.join(low)} must stay in fp32 or bf16: "
        f"pin their units by --pin, or choose another --space"
    )


def unlike_decisions(tuned: TuneResult) -> str | None:
    """That decisions have changed although the outputs are alike by the metric, None where they have not."""
    metric, outcome = tuned.task.metric, tuned.answer.outcome
    if not metric.built_in or metric.needs_labels or outcome.agreement is None or outcome.agreement >= _ALIKE:
        return None
    return (
        f"only {outcome.agreement:.0%} of the decisions on the held-out samples are those of FP32, although "
        f"{metric.name} is within its bound: judge {tuned.chosen} with labels, or by a metric of your own, before you "
        "use it"
    )


def passed_over(tuned: TuneResult) -> list[str]:
    """One sentence for each uniform plan that is certified and better than the best uniform one that could be chosen.

    The samples that choose are others than those that certify, so a plan near the bound can miss it on the former only.
    """
    best, bound = tuned.best_uniform, tuned.task.settings.max_drop
    measured = {tuple(sorted(trial.plan.items())): trial.measured for trial in tuned.found.trials}
    sentences = []
    for name, candidate in tuned.candidates.items():
        found = measured.get(tuple(sorted(candidate.plan.items())))
        better = _objective_of(tuned, candidate) < min(_objective_of(tuned, best), _objective_of(tuned, tuned.answer))
        if not (candidate.uniform and better and candidate.outcome.finite and candidate.drop.certifies(bound)):
            continue
        if found is None:
            choices = tuned.task.subject.choices
            if any(candidate.plan[unit] not in options for unit, options in choices.items()):
                continue  # pins forbid it
            why = "the search did not measure it"
        elif found.judged_drop > bound:
            samples = found.samples or tuned.task.splits.select.count
            why = f"on the {samples} selection samples its drop was {found.judged_drop:.4g}, and {bound:g} is allowed"
        else:
            continue
        sentences.append(
            f"{name} is {tuned.goal.better} and certified on the held-out samples, but could not be the answer: {why}"
        )
    return sentences


def _objective_of(tuned: TuneResult, candidate: Candidate) -> float:
    """What is minimised, of a candidate."""
    if tuned.goal.objective == "size":
        return float(candidate.size)
    return candidate.drop.estimate if tuned.goal.objective == "accuracy" else candidate.timing.median_ms


def limit_text(tuned: TuneResult) -> str:
    """The bound on the latency, as the user gave it."""
    return f"{tuned.goal.max_latency:.3g} of it" if tuned.limit_ms is None else f"{tuned.limit_ms:g} ms"


def chosen_trial(tuned: TuneResult) -> Trial:
    """What the search measured of the answer."""
    plan = dict(tuned.plan)
    return next((t for t in tuned.found.trials if dict(t.plan) == plan), tuned.found.best)


def _way_out(tuned: TuneResult) -> str:
    """What the user can do where no plan meets the bound."""
    subject = tuned.task.subject
    advice = ["allow more by --max-drop"]
    if subject.pinned:
        advice.append("free pinned units")
    if Precision.FP32 not in subject.space.precisions:
        advice.append("add fp32 to the space")
    return f"{', '.join(advice[:-1])} or {advice[-1]}" if len(advice) > 1 else advice[0]
