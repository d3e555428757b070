"""What a runtime that refuses plans probably cannot do: found by bisection, as one finds a bad part."""

from __future__ import annotations

from collections.abc import Sequence

from autoprec.plan import Assignment
from autoprec.precision import Precision

Part = tuple[str, Precision]


def forbidden(refused: Sequence[Assignment], built: Sequence[Assignment]) -> frozenset[Part]:
    """The pairs of unit and precision that the next plan should avoid.

    Every pair of a built plan is cleared; the other pairs of refused plans are suspects. The next plan tries half of
    the suspects of the refused plan that has the fewest, and no other suspects. If it is built, that half is cleared;
    if it is refused, the bad pair is in that half. The last suspect of a plan is bad, and explains all plans that have
    it. A refused plan without any suspect is a combination that does not work, and forbids nothing. A plan of one pair
    alone is what a runtime itself named as the reason: that pair is bad, even if plans with it were built.

    Args:
        refused: the plans that the runtime refused.
        built: the plans that it built.
    """
    bad: set[Part] = {part for plan in refused if len(plan) == 1 for part in plan.items()}
    cleared = {part for plan in built for part in plan.items()} - bad
    while True:
        suspects = [
            [part for part in plan.items() if part not in cleared]
            for plan in refused
            if not bad.intersection(plan.items())
        ]
        suspects = [parts for parts in suspects if parts]
        if not suspects:
            return frozenset(bad)
        fewest = min(suspects, key=len)
        if len(fewest) > 1:
            tried = set(fewest[: len(fewest) // 2])
            return frozenset(bad.union(*suspects) - tried)
        bad.update(fewest)
