"""What a runtime that refuses plans probably cannot do: found as one finds a bad part, by halves."""

from __future__ import annotations

from collections.abc import Sequence

from autoprec.plan import Assignment
from autoprec.precision import Precision

Part = tuple[str, Precision]


def forbidden(refused: Sequence[Assignment], built: Sequence[Assignment]) -> frozenset[Part]:
    """(unit, precision) that the next plan had better avoid.

    What a built plan has is cleared. Of the refused plan with the fewest suspects the next plan tries half, and of
    other suspects none: if it is built, that half is cleared, and if it is refused, the bad part is among it. The
    last suspect of a plan is bad, and explains all plans that have it. A plan without any suspect is a combination
    that cannot be, and forbids nothing.

    Args:
        refused: plans that the runtime refused.
        built: plans that it built.
    """
    cleared = {part for plan in built for part in plan.items()}
    bad: set[Part] = set()
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
