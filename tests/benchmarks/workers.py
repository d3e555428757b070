"""How a search speeds up with workers, replayed on a measured table with a virtual clock.

    python tests/benchmarks/workers.py TABLE [--workers 1,2,4,8,16,32] [--seeds N] [--samplers guided,random]

Every plan of TABLE was measured (tests/benchmarks/quality.py made it), so that a search can be replayed: each of w
workers asks the sampler with what is known at that moment, is busy for as long as a build and its measurements take on
a GPU (drawn for each plan, 7 s in the median), and then tells. Optuna's study, the sampler and its claims are the real
ones; the clock is not, so that 32 workers need no 32 GPUs. The sampler's own time counts, as given by --ask.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from autoprec.cli.screen import print_table
from autoprec.precision import Precision
from autoprec.study.guide.neighbours import uniform_assignments
from autoprec.study.ledger.samplers import make_sampler

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.helpers.exhaustive_table import Table, disturbed, load


@dataclass(frozen=True)
class Replay:
    """What a replayed search came to.

    Attributes:
        reached_s: until a plan within 1 % of the optimum was told; infinite where none was.
        plans: told until then, or all of the budget.
    """

    reached_s: float
    plans: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--workers", default="1,2,4,8,16,32")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", default="guided,random")
    parser.add_argument("--budget", type=int, default=300, help="the most plans")
    parser.add_argument("--plan-s", type=float, default=7.0, help="median seconds of a plan: build, accuracy, clock")
    parser.add_argument("--ask", type=float, default=0.3, help="seconds that the sampler takes")
    parser.add_argument(
        "--spread", type=float, default=0.2, help="how wrong sensitivities and profile are, as a factor"
    )
    parser.add_argument("--feasible", type=float, default=0.4, help="the bound is met by this share of the plans")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = load(options.table, "kl")
    bound = float(np.quantile(table.drop, options.feasible))
    rows = []
    for name in options.samplers.split(","):
        alone_s = 0.0
        for workers in map(int, options.workers.split(",")):
            runs = [replay(table, name, bound, workers, seed, options) for seed in range(options.seeds)]
            reached_s, plans = (float(np.median([getattr(run, n) for run in runs])) for n in ("reached_s", "plans"))
            alone_s = alone_s or reached_s
            found = f"{sum(np.isfinite(run.reached_s) for run in runs)} of {len(runs)}"
            rows.append([name, str(workers), f"{reached_s:.0f}", f"{alone_s / reached_s:.1f}", f"{plans:.0f}", found])
    print_table(["sampler", "workers", "s to within 1 %", "speed-up", "plans until then", "found"], rows)


def replay(table: Table, name: str, bound: float, workers: int, seed: int, options: argparse.Namespace) -> Replay:
    """One search: the earliest worker that is free asks, and what was told by then is known."""
    known, random = disturbed(table, seed, options.spread), np.random.default_rng(seed)
    takes_s = options.plan_s * np.exp(random.normal(0, 0.3, len(table.latency)))
    sampler = make_sampler(name, known.problem, known.prior, bound, seed)
    study = optuna.create_study(sampler=sampler)
    space = {unit: CategoricalDistribution([p.value for p in choices]) for unit, choices in table.free.items()}
    for plan in uniform_assignments(table.problem):
        study.enqueue_trial({unit: plan[unit].value for unit in space})
    optimum, seen, now, told = table.optimum(bound), set(), 0.0, 0
    busy: list[tuple[float, int, optuna.Trial, int]] = []
    while told < options.budget:
        while len(busy) < workers:
            trial = study.ask(fixed_distributions=space)
            number = table.number({unit: Precision(value) for unit, value in trial.params.items()})
            if number in seen:  # costs nothing, as in the tool
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            seen.add(number)
            heapq.heappush(busy, (now + options.ask + takes_s[number], trial.number, trial, number))
        now, _, trial, number = heapq.heappop(busy)
        told += 1
        trial.set_constraint("drop", table.drop[number] - bound)
        trial.set_user_attr("noise", table.noise[number])
        study.tell(trial, table.latency[number])
        if table.drop[number] <= bound and table.latency[number] <= 1.01 * optimum:
            return Replay(now, told)
    return Replay(np.inf, told)


if __name__ == "__main__":
    main()
