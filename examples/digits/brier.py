"""A metric of one's own: the Brier score, lower is better.

    cd examples/digits
    autoprec tune digits.onnx --calib calib.npz --eval eval.npz --metric brier:brier --max-drop 0.002

The module is imported from the current folder, hence the `cd`. A metric returns one score per sample and says
its direction in the attribute `higher_is_better`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def brier(outputs: Mapping[str, npt.NDArray[Any]], labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Squared distance between the predicted probabilities and the true class (Brier, 1950).

    Args:
        outputs: the model's outputs by name; `logits` has shape (n, classes).
        labels: the true classes, integers of shape (n,).

    Returns:
        Scores of shape (n,) from 0, certain and right, to 2, certain and wrong.
    """
    logits = outputs["logits"].astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    truth = np.eye(logits.shape[1])[labels]
    scores: npt.NDArray[np.float64] = np.square(probabilities - truth).sum(axis=1)
    return scores


brier.higher_is_better = False  # type: ignore[attr-defined]
