"""Plans that ONNX Runtime used to undo run as asked; tests/benchmarks/as_asked.py has the rest of the patterns."""

from __future__ import annotations

import pytest

from ..helpers.as_asked import disagreements


@pytest.mark.parametrize(
    "names",
    [
        ("chain", "conv", "relu_pad", "depthwise"),
        ("chain", "conv", "relu_split", "conv_transpose"),
        ("matrix", "linear_row", "relu", "linear_row"),
        ("matrix", "matmul", "relu6", "bare_gemm"),
        ("matrix", "matmul", "skip", "linear"),
        ("matrix chain", "linear", "residual", "linear"),
        ("tokens", "matmul", "relu", "linear"),
    ],
    ids=" ".join,
)
def test_every_plan_of_the_pattern_runs_as_asked_and_is_said_to(names: tuple[str, str, str, str]) -> None:
    count, found = disagreements(*names)

    assert count > 0
    assert found == []
