"""How much better the winner's drop looks on the samples that chose it than on others, before and after correction.

    python tests/benchmarks/winners_curse.py PATH_OF_THE_ZOO [MODEL ...] [--splits N] [--plans N] [--seed N]

Plans are uniform INT8 and random ones with 30 to 95 % of the units in INT8, judged on every evaluation sample once.
Then, many times, the
samples are split in halves. The plan with the most units in INT8 whose estimated drop on one half is within the bound
wins, as the fastest plan would, with a latency known to 1 %. Its drop there, and that less the expected optimism, are
compared with its drop on the other half, both as autoprec estimates them, in points. The bound of each split is the
median drop of all plans on all samples, so that about half of the plans are close to it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from drop_interval import Decisions, decisions_of_plans
from zoo import is_classifier, load_zoo

from autoprec.cli.screen import print_table
from autoprec.run.answer.luck import shared_noise
from autoprec.stats.drop import Drop, estimate_drop, smoothed_losses
from autoprec.stats.optimism import NoisyFigures, Selection, expected_optimism

_CLOCK_ERROR = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--plans", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.threads = None
    zoo, rows = load_zoo(options.zoo), []
    for name in options.models or zoo.NAMES:
        task = zoo.load(name)
        if is_classifier(task):
            wanted = [(1.0, share) for share in np.linspace(0.3, 0.95, options.plans - 1)]
            rows.append([name, *row(decisions_of_plans(task, options, wanted), options)])
            print(" ".join(rows[-1]), flush=True)
    print_table(["model", "splits", "shared", "optimism", "left after correction", "+- error"], rows)


def row(plans: list[Decisions], options: argparse.Namespace) -> list[str]:
    reference, *candidates = plans
    count, generator = reference.right.size, np.random.default_rng(options.seed)
    everything = np.arange(count)
    bound = float(np.median([estimate(reference, plan, everything).estimate for plan in candidates]))
    errors, corrected, shares = [], [], []
    for number in range(options.splits):
        order = generator.permutation(count)
        select, report = order[: count // 2], order[count // 2 :]
        found = [estimate(reference, plan, select) for plan in candidates]
        # Uniform INT8 is first, and the last has the most units in INT8 of the others.
        costs = [0.5, *np.linspace(0.85, 0.55, len(found) - 1).tolist()]
        seen = NoisyFigures(  # FP32 first
            cost=np.array([1.0, *costs]),
            cost_error=np.array([0.0, *(c * _CLOCK_ERROR for c in costs)]),
            limited=np.array([0.0, *(d.estimate for d in found)]),
            limited_error=np.array([0.0, *(d.error() or 0.0 for d in found)]),
            margin=np.zeros(len(found) + 1),
            always=np.zeros(len(found) + 1, bool),
        )
        losses = [smoothed_losses(reference.margins[report], p.margins[report]) for p in candidates[:2]]
        shared = float(np.clip(shared_noise(losses) or 0.0, 0.0, 0.95))
        accepted = [n for n, d in enumerate(found) if d.estimate <= bound]
        if not accepted:
            continue
        winner = min(accepted, key=costs.__getitem__)
        selection = Selection(limit=bound, finalists=1, fresh_error=_CLOCK_ERROR, shared=shared)
        luck = expected_optimism(seen, selection, number, draws=400)
        fresh = estimate(reference, candidates[winner], report).estimate
        errors.append(found[winner].estimate - fresh)
        corrected.append(found[winner].estimate + luck.limited - fresh)
        shares.append(shared)
    spread = 100 * float(np.std(errors)) / math.sqrt(len(errors))
    return [
        str(len(errors)),
        f"{np.mean(shares):.2f}",
        f"{100 * np.mean(errors):+.3f}",
        f"{100 * np.mean(corrected):+.3f}",
        f"{spread:.3f}",
    ]


def estimate(reference: Decisions, plan: Decisions, places: Any) -> Drop:
    margins = reference.margins[places], plan.margins[places]
    return estimate_drop(reference.right[places], plan.right[places], True, margins=margins)


if __name__ == "__main__":
    main()
