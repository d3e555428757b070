"""What a plan loses: the models of noise and drop, fitted to measured plans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.drop import fit_drop
from autoprec.study.guide.noise import Entries, Losses, fit_noise


class AccuracyFit:
    """The models of noise and drop, fitted to measured plans.

    Args:
        losses: (unit, precision) -> additive loss, missing means none.
        plans: the measured plans.
        noises: the noise of each, float64[plans]; NaN where only the drop is known.
        drops: the judged drop of each, float64[plans]; NaN where it was not judged.
        bound: the most drop that is allowed.

    Attributes:
        unit: a usual drop, by which drops are scaled.
    """

    def __init__(self, losses: Losses, plans: Sequence[Assignment], noises: Array, drops: Array, bound: float) -> None:
        self.bound = bound
        self._entries = Entries(losses)
        noisy = [index for index, noise in enumerate(noises) if 0 < noise < np.inf]
        judged = [index for index, drop in enumerate(drops) if not np.isnan(drop)]
        indicators = self._entries.indicators(plans)
        self._noise = fit_noise(self._entries, indicators[noisy], noises[noisy])
        self._drop = fit_drop(self._noise, indicators[judged], drops[judged], bound)
        self.unit = self._drop.unit

    @property
    def losses(self) -> dict[tuple[str, Precision], float]:
        """The corrected sensitivities: (unit, precision) -> noise in context."""
        return self._entries.by_pair(self._noise.context)

    def noise(self, plans: Sequence[Assignment]) -> Array:
        """The predicted noise of the outputs, float64[plans]."""
        return self._noise.predict(self._entries, plans)

    def drop(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The predicted judged drop and its standard deviation, float64[plans] each."""
        return self._drop.predict(self._noise, self._entries, plans)

    def feasible(self, plans: Sequence[Assignment]) -> Array:
        """The probability that each plan meets the bound, float64[plans]."""
        mean, deviation = self.drop(plans)
        result: Array = ndtr((self.bound - mean) / deviation)
        return result

    def link(self, noise: Array) -> Array:
        """The drop that goes with a noise: piecewise linear, never falling, and 0 at no noise."""
        return self._drop.link(noise)

    def budget(self, drop: float) -> float:
        """The most noise whose drop is at most `drop`; infinite where every drop seen is less."""
        return self._drop.link.budget(drop)

    def slopes(self) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> what it adds to the drop of plans near the bound: the link's slope, and the rest."""
        at = min(self.budget(self.bound), float(self._drop.link.noise[-1])) or 1.0
        near = float(self.link(np.array([at]))[0])
        per_noise = near / at if near > 0 else self.unit / at
        extra = self._drop.extra() * (max(near, 0.0) + self.unit) / at
        return self._entries.by_pair(self._noise.context * np.maximum(per_noise + extra, 0.05 * per_noise))
