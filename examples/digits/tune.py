"""Tune the digit classifier through the Python API: `python examples/digits/tune.py`."""

from __future__ import annotations

from pathlib import Path

import autoprec

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Search for the fastest plan that loses at most one point of top-1 accuracy, and save it."""
    result = autoprec.search(
        HERE / "digits.onnx",
        calib=HERE / "calib.npz",
        eval=HERE / "eval.npz",
        metric="top1",
        max_drop=0.01,
        out="runs/digits",
    )
    print(f"{len(result.trials)} plans tried; the answer:")
    print(result.plan)
    result.save()


if __name__ == "__main__":
    main()
