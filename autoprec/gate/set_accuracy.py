"""The comparison of a figure over a data set with that of the baseline."""

from __future__ import annotations

import numpy as np

from autoprec.metrics.metric import Metric
from autoprec.metrics.over_set import OverSet, Rows, scored_rows
from autoprec.precision import Array
from autoprec.stats.resampling import effect_of, in_chunks, mean_with_error
from autoprec.stats.significance import Compared, SignificanceTest, upper_t

_SWAPS = (499, 1999)
_COST = 1e8
"""About how many statistics may be summed for the swaps."""


def compare_figures(
    metric: Metric, before: Array, after: Array, *, rows: tuple[Rows, Rows] | None = None, groups: int | None = None
) -> Compared:
    """Compare a metric over a data set before and after a change, on the same samples.

    Where the metric has statistics of samples, the test swaps those of random samples (Fisher 1935): if the change does
    nothing, a sample could as well have been on the other side. Otherwise Student's test takes the blocks as values.

    Args:
        metric: the metric.
        before: what each sample contributed before the change, float64[n]; with statistics, they are computed anew.
        after: what it contributes after it.
        rows: the statistics before and after the change; None for a metric without.
        groups: the number of independent groups behind the contributions after the change.
    """
    over_set = metric.over_set
    if rows is not None and over_set is not None:
        scored = [scored_rows(over_set, side) for side in rows]
        before, after = (score.contributions for score in scored)
        groups = scored[1].groups
    loss = before - after if metric.higher_is_better else after - before
    change = mean_with_error(loss, groups or len(loss), 0.95, effect_of(before))
    if rows is not None and over_set is not None:
        p = swapped(over_set, rows, metric.higher_is_better)
    else:
        p = upper_t(change, groups or len(loss))
    return Compared(
        change=change,
        p=p,
        samples=len(loss),
        lost=int((loss > 0).sum()),
        won=int((loss < 0).sum()),
        test=SignificanceTest.STUDENT if rows is None else SignificanceTest.SWAPS,
    )


def swapped(metric: OverSet, rows: tuple[Rows, Rows], higher_is_better: bool, seed: int = 0) -> float:
    """Return the probability of so large a loss if each sample's statistics were as likely to be on the other side."""
    both, samples = (*rows[0], *rows[1]), len(rows[0])
    size = sum(map(len, both))
    count = int(np.clip(_COST / max(size, 1), *_SWAPS))
    stays = np.random.default_rng(seed).integers(0, 2, (count, samples)).astype(np.float64)
    stays = np.concatenate([np.ones((1, samples)), stays])

    def loss(kept: Array) -> Array:
        first = metric.figures(both, np.concatenate([kept, 1 - kept], axis=1))
        second = metric.figures(both, np.concatenate([1 - kept, kept], axis=1))
        return first - second if higher_is_better else second - first

    losses = in_chunks(loss, stays, size)
    if losses[0] <= 0:
        return 1.0
    # The tolerance counts losses that are equal but for rounding as equal.
    return float((losses >= losses[0] * (1 - 1e-9)).sum() / (count + 1))
