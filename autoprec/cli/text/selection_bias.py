"""How much better the answer looked in the search than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoprec.run.answer.luck import SelectionBias


def bias_lines(bias: SelectionBias | None, disturbed: bool = False, unit: str = "FP32") -> list[str]:
    """The figures of the search, corrected, and measured again, and whether the new ones agree.

    Args:
        bias: the correction, None where nothing was chosen.
        disturbed: whether other programs disturbed the new timings, which then say nothing about the latency.
        unit: what the latency is compared with.
    """
    if bias is None:
        return []
    latency, drop = bias.latency, bias.drop
    unlike = [name for name, row in (("latency", latency), ("drop", drop)) if not row.confirmed]
    if disturbed:
        unlike = [name for name in unlike if name != "latency"]
    agree = f"do not confirm the {' and the '.join(unlike)}, so trust the new ones" if unlike else "agree"
    if disturbed:
        agree += ", but say nothing about the latency, as other programs used the CPUs"
    latencies = (
        f"  latency / {unit}: {latency.selected:.3f} in the search, {latency.corrected:.3f} corrected, "
        f"{latency.fresh:.3f} timed again"
    )
    drops = (
        f"  drop: {drop.selected:+.4f} in the search, {drop.corrected:+.4f} corrected, {drop.fresh:+.4f} on held-out "
        f"samples"
    )
    return [
        f"selection bias: the best of {bias.plans} plans within the bound tends to look better than it is.",
        latencies,
        drops,
        f"  The new figures {agree}.",
    ]
