"""What one proposal costs on made-up networks of many units, in CPU seconds and memory.

    python tests/benchmarks/proposals.py [UNITS ...]

Each network is a chain with a shortcut for each other unit; every unit has FP32, FP16 and INT8, and no two are alike.
Twelve plans are measured before, with the noise of a real clock, five of them profiled.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import time

import numpy as np

from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.neighbours import drawn, uniform_assignments
from autoprec.study.guide.proposer import Proposer
from autoprec.study.guide.solve import Problem
from autoprec.study.trial import Measurement, Trial
from autoprec.units.records import Edge, Partition, Unit, UnitKind

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
SPEED = {Precision.FP32: 1.0, Precision.FP16: 0.6, Precision.INT8: 0.4}
NOISE = {Precision.FP32: 0.0, Precision.FP16: 1e-3, Precision.INT8: 1.0}
TRIALS = 12


def network(count: int, seed: int = 0) -> tuple[Problem, dict[tuple[str, Precision], float], LatencyModel]:
    """A problem, its profile, and the true prices."""
    random = np.random.default_rng(seed)
    names = [f"u{number}" for number in range(count)]
    units = tuple(
        Unit(name=n, kind=UnitKind.MATMUL, nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n)
        for n in names
    )
    ends = [*itertools.pairwise(names), *zip(names[::2], names[3::2], strict=False)]
    edges = tuple(Edge(a, b, f"{a}>{b}", int(random.integers(1e4, 1e6))) for a, b in ends)
    size = random.lognormal(0, 1, count) / count / 1.65
    prior = {(n, p): float(s * SPEED[p]) for n, s in zip(names, size, strict=True) for p in PRECISIONS}
    loss = {
        (n, p): float(NOISE[p] * e) for n, e in zip(names, random.lognormal(0, 2, count), strict=True) for p in SPEED
    }
    true = {key: value * float(random.lognormal(0, 0.2)) for key, value in prior.items()}
    largest = max(edge.elements for edge in edges)
    price = 0.5 / count / largest
    model = LatencyModel(unary=true, up=price, down=price, cast=price / 3, edge=0.1 / count, constant=0.02)
    return (
        Problem(
            Partition(units=units, reasons={}, edges=edges), dict.fromkeys(names, PRECISIONS), loss, Precision.FP32
        ),
        prior,
        model,
    )


def measured(problem: Problem, model: LatencyModel, bound: float, seed: int = 0) -> list[Trial]:
    """The uniform plans, and random plans in blocks."""
    random = np.random.default_rng(seed)
    plans = list(uniform_assignments(problem))
    while len(plans) < TRIALS:
        plans.append(drawn(problem, plans[len(plans) % 3], random))
    trials = []
    for number, plan in enumerate(plans):
        loss = problem.total_loss(plan)
        latency = model.predict(problem.partition, plan, problem.carrier) * float(random.lognormal(0, 0.01))
        layers = {name: 10 * model.unary[name, p] for name, p in plan.items()} if number < 5 else None
        drop = loss * float(random.lognormal(0, 0.1))
        figures = Measurement(
            drop=drop,
            judged_drop=drop,
            noise=drop,
            kl=None,
            agreement=None,
            latency_ratio=latency,
            bytes=None,
            layers_ms=layers,
        )
        trials.append(
            Trial(number=number, origin="", plan=plan, measured=figures, feasible=drop <= bound, predicted=None)
        )
    return trials


def propose(count: int) -> None:
    problem, prior, model = network(count)
    bound = 0.1 * sum(problem.loss[name, Precision.INT8] for name in problem.choices)
    trials = measured(problem, model, bound)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.process_time()
    proposal = Proposer(problem, prior, Goal("latency", bound), 0).propose(trials)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert proposal is not None
    true = model.predict(problem.partition, proposal.plan, problem.carrier)
    best = min(t.measured.latency_ratio for t in trials if t.feasible)
    loss = problem.total_loss(proposal.plan) / bound
    print(
        f"{count} units, {len(problem.partition.edges)} edges: {spent:.1f} s, {peak:.2f} GB ({before:.2f} before); "
        f"{proposal.origin}: {true:.3f} of FP32, loss {loss:.2f} of the bound; best measured {best:.3f}",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        propose(int(sys.argv[2]))
        return
    for count in sys.argv[1:] or ("100", "500", "1000", "2000"):
        subprocess.run([sys.executable, __file__, "one", count], check=True)  # so that each has a peak of its own


if __name__ == "__main__":
    main()
