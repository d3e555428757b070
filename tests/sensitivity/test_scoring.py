"""Scores of entries on chunks of samples."""

from __future__ import annotations

import numpy as np

from autoprec.graph.interface import Batch
from autoprec.sensitivity.scoring import of_one_shape


def test_batches_are_scored_together_only_where_their_samples_have_one_shape() -> None:
    lengths = [3, 5, 3, 4, 5]
    parts = [(Batch({"x": np.zeros((2, n))}, np.zeros(2)), {"y": np.zeros((2, n, 7))}) for n in lengths]
    groups = of_one_shape(parts, ["y"])

    assert [[made["y"].shape[1] for _, made in group] for group in groups] == [[3, 3], [5, 5], [4]]
