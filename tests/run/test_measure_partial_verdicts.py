"""How often a verdict on a part of the samples is wrong, and what it saves, on made-up plans near the bound."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.run.measure import CERTAIN, LOOKS, certain
from autoprec.stats.drop import estimate_drop

SAMPLES, PLANS, BOUND = 512, 120, 0.01


def verdicts(shift: float, looks: tuple[float, ...], seed: int = 0) -> tuple[float, float]:
    """Share of verdicts on a part of the samples that all of them reverse, and mean share of samples that it took."""
    generator = np.random.default_rng(seed)
    wrong, spent = 0, 0.0
    for _ in range(PLANS):
        before = generator.normal(1.7, 2.0, SAMPLES)
        after = before - shift + 0.5 * generator.normal(size=SAMPLES)
        found, share = None, 1.0
        for look in looks:
            drop = at(before, after, int(look * SAMPLES), 1 - (1 - CERTAIN) / len(looks))
            if certain(drop, BOUND, SAMPLES):
                found, share = drop.low > BOUND, look
                break
        whole = at(before, after, SAMPLES, 0.95).estimate > BOUND
        wrong += found is not None and found != whole
        spent += share / PLANS
    return wrong / PLANS, spent


def at(before, after, count: int, confidence: float):  # type: ignore[no-untyped-def]
    first, second = before[:count], after[:count]
    scores = [(part > 0).astype(float) for part in (first, second)]
    return estimate_drop(*scores, True, margins=(first, second), confidence=confidence)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_no_verdict_on_a_part_is_reversed_by_all_samples(shift: float) -> None:
    assert verdicts(shift, LOOKS)[0] == 0.0


def test_plans_far_over_the_bound_are_known_for_such_by_an_eighth_of_the_samples() -> None:
    assert verdicts(1.2, LOOKS)[1] < 0.25


def test_looking_thrice_costs_less_than_looking_once_though_each_look_is_stricter() -> None:
    assert verdicts(0.6, LOOKS)[1] < verdicts(0.6, (0.25,))[1]
