"""The latency model on plans that were built and timed on a real GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from autoprec.precision import Precision
from autoprec.study.guide.pricing import Pricing
from autoprec.units.records import Edge, Partition, Unit

from ...helpers.timed_plans import Timed, fitted

DATA = Path(__file__).parents[1] / "data"
MODELS = ("mobilenet_v1_075", "etinynet", "resnet20_cifar10")
LETTERS = {"F": Precision.FP32, "h": Precision.FP16, "8": Precision.INT8}


def recorded(model: str) -> tuple[Pricing, dict[str, list[Timed]]]:
    """What the plans are made of; and the plans that a search begins with, those to fit, and the unseen ones."""
    data: dict[str, Any] = json.loads((DATA / f"h200_{model}.json").read_text(encoding="utf-8"))
    units = tuple(
        Unit(name=name, kind="conv", nodes=(name,), anchors=(name,), inputs=(), outputs=(), macs=1, weights=1, key=name)
        for name in data["units"]
    )
    edges = tuple(Edge(a, b, f"{a}>{b}", size) for a, b, size in data["edges"])
    prior = {(name, Precision(p)): share for name, row in data["prior"].items() for p, share in row.items()}
    plans: dict[str, list[Timed]] = {"seed": [], "fit": [], "unseen": []}
    for kind, letters, ratio, layers_us in data["plans"]:
        plan = {name: LETTERS[letter] for name, letter in zip(data["units"], letters, strict=True)}
        layers = {name: us / 1e3 for name, us in zip(data["units"], layers_us, strict=True)}
        plans[kind.split()[0]].append(Timed(plan, ratio, layers))
    return Pricing(Partition(units=units, reasons={}, edges=edges), prior, Precision(data["carrier"])), plans


def fidelity(pricing: Pricing, seen: list[Timed], unseen: list[Timed]) -> tuple[float, float]:
    """Spearman's rank correlation and the mean relative error."""
    means, _ = fitted(pricing, seen).predict([timed.plan for timed in unseen])
    latencies = np.array([timed.latency for timed in unseen])
    return float(spearmanr(means, latencies)[0]), float(np.abs(means / latencies - 1).mean())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("count", [5, 10, 18])
def test_profiled_plans_predict_20_unseen_ones_in_order_and_within_five_percent(model: str, count: int) -> None:
    """Half of them random in each unit, half contiguous; fitted to the search's first five plans and `count` more."""
    pricing, plans = recorded(model)
    rank, error = fidelity(pricing, plans["seed"] + plans["fit"][:count], plans["unseen"])

    assert len(plans["unseen"]) == 20
    assert rank >= 0.95
    assert error <= 0.05


@pytest.mark.parametrize("model", MODELS)
def test_profiles_are_worth_more_than_as_many_plans_again(model: str) -> None:
    pricing, plans = recorded(model)
    _, profiled = fidelity(pricing, plans["seed"] + plans["fit"][:8], plans["unseen"])
    only_timed = [replace(timed, layers_ms=None) for timed in plans["seed"] + plans["fit"][:16]]

    assert profiled < fidelity(pricing, only_timed, plans["unseen"])[1]
