"""How much of what noises differ by is real."""

from __future__ import annotations

import numpy as np

from autoprec.sensitivity.measure import reliability

RNG = np.random.default_rng(0)


def test_reliability_is_the_squared_correlation_with_the_truth() -> None:
    true = RNG.normal(size=20_000)
    for error in (0.3, 1.0):
        seen = true + error * RNG.normal(size=true.size)
        found = reliability(np.exp(seen), np.full(true.size, error))
        assert abs(found - np.corrcoef(true, seen)[0, 1] ** 2) < 0.01


def test_equal_noises_and_few_entries_are_never_reliable() -> None:
    assert reliability(np.ones(50), np.full(50, 0.01)) == 0.0
    assert reliability(np.array([1e-6, 1e-2]), np.full(2, 0.01)) == 0.0
    assert reliability(np.array([]), np.array([])) == 0.0
