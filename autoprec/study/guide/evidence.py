"""The likeliest hyperparameters of a Gaussian linear regression, by the evidence (MacKay 1992)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from autoprec.precision import Array


def likeliest(
    rows: Array, target: Array, deviations: Sequence[float], noises: Sequence[float], *, shared: int
) -> tuple[float, float]:
    """The deviation of the parameters and the noise of the target with the most evidence, from a grid.

    Args:
        rows: the linear model, float64[observations, parameters].
        target: what was observed, float64[observations].
        deviations: standard deviations of the parameters to choose from.
        noises: standard deviations of the target to choose from.
        shared: how many of the first parameters have a deviation of 1 instead.
    """
    common = rows[:, :shared] @ rows[:, :shared].T
    own = rows[:, shared:] @ rows[:, shared:].T
    best, chosen = -math.inf, (deviations[0], noises[-1])
    for deviation, noise in itertools.product(deviations, noises):
        factor = np.linalg.cholesky(common + deviation**2 * own + noise**2 * np.eye(len(target)))
        scaled = np.linalg.solve(factor, target)
        evidence = -0.5 * float(scaled @ scaled) - float(np.log(np.diag(factor)).sum())
        if evidence > best:
            best, chosen = evidence, (deviation, noise)
    return chosen
