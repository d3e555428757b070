"""The verdict on a paired comparison: is the score different, by more than is allowed, and can that be seen?"""

from __future__ import annotations

import math
from dataclasses import replace

from autoprec.gate.verdict import Status
from autoprec.stats.significance import ALPHA, Compared, SignificanceTest, mcnemar

FEWEST_SAMPLES = 20
"""The fewest pairs of scores from which the gate draws a conclusion."""
UNSEEN = 3.0  # the rule of three: if none of n samples changed, still up to 3 / n of all may have changed
_ROUNDING = 1e-12  # the tolerance for a drop that equals the bound but for rounding
_FINEST = 0.005  # the smallest bound for which samples are demanded; a bound of 0 would need infinitely many


def decide(compared: Compared, allowed: float) -> tuple[Status, str]:
    """Return the verdict and its sentence by two questions: is the score different, and by more than is allowed?"""
    loss, count = compared.change.estimate, compared.samples
    beyond = loss > allowed + _ROUNDING
    counted = f"{compared.lost} of {count} samples got worse and {compared.won} better"
    if compared.different and beyond:
        return Status.WORSE, (
            f"{counted}: a drop of {loss:.4g}, more than the {allowed:g} allowed, and statistically "
            f"significant ({compared.test}, p = {compared.p:.2g}); tune the model again, or accept it by a new baseline"
        )
    if beyond:
        return Status.CANNOT_JUDGE, (
            f"{counted}: a drop of {loss:.4g}, more than the {allowed:g} allowed, but not statistically "
            f"significant ({compared.test}, p = {compared.p:.2g}); about {samples_to_decide(compared):,} samples would "
            "decide"
        )
    enough = samples_to_see(compared, allowed)
    if count < enough:
        return Status.CANNOT_JUDGE, (
            f"{count} samples are too few to see a drop of {allowed:g}; give about {enough:,}, or allow more by "
            f"--max-drop"
        )
    gain = ", and significantly better" if mirrored(compared).different else ""
    return Status.FINE, f"{counted}: within the bound{gain}"


def samples_to_see(compared: Compared, allowed: float) -> int:
    """Return how many samples it takes to see a drop of `allowed`, estimated from the scatter of these."""
    if compared.test is SignificanceTest.MCNEMAR:
        return max(FEWEST_SAMPLES, math.ceil(UNSEEN / max(allowed, _FINEST)))
    half = compared.change.high - compared.change.estimate
    return max(FEWEST_SAMPLES, math.ceil(compared.samples * (half / allowed) ** 2) if allowed > 0 else 0)


def caught_drop(samples: int, allowed: float) -> float:
    """Return the smallest drop of decisions that so many samples call worse in 95 of 100 cases.

    It assumes that decisions are only lost and none is won. Then the number of lost decisions is nearly Poisson
    distributed, and it must be at least 7 to be significant, and must exceed the bound.
    """
    fewest = max(math.ceil(math.log2(1 / ALPHA)), math.floor(allowed * samples + _ROUNDING) + 1)
    if fewest > 300:  # then the distribution is nearly normal, and exp(-mean) would underflow below
        return (fewest + 1.645 * math.sqrt(fewest) + 1.35) / samples
    low, high = 0.0, fewest + 10 * math.sqrt(fewest) + 10
    for _ in range(50):
        mean = (low + high) / 2
        term = missed = math.exp(-mean)
        for count in range(1, fewest):
            term *= mean / count
            missed += term
        low, high = (mean, high) if missed > 0.05 else (low, mean)
    return high / samples


def mirrored(compared: Compared) -> Compared:
    """Return the comparison with the question reversed: is it better? Only decisions are ever called better."""
    if compared.test is not SignificanceTest.MCNEMAR:
        return replace(compared, p=1.0)
    return replace(compared, p=mcnemar(compared.won, compared.lost))


def samples_to_decide(compared: Compared) -> int:
    """Return about how many samples would make the same drop significant."""
    change = compared.change
    error = (change.high - change.low) / (2 * 1.96)
    needed = compared.samples * (2.33 * error / change.estimate) ** 2  # 2.33 is the normal quantile of 0.99
    fewest = math.log2(1 / ALPHA) / change.estimate if compared.test is SignificanceTest.MCNEMAR else 0
    return max(compared.samples + 1, math.ceil(needed * 1.2), math.ceil(fewest))
