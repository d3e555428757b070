"""The network of a first build."""

from __future__ import annotations

import onnx

from autoprec.backends.tensorrt.asked_by_model import requested_precisions
from autoprec.backends.tensorrt.warm_up import tiny_network


def test_the_first_network_is_a_valid_convolution_in_fp16() -> None:
    onnx.checker.check_model(onnx.load_from_string(tiny_network()), full_check=True)

    assert requested_precisions(tiny_network()) == {"conv": "fp16"}
