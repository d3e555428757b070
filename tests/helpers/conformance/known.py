"""What mathematics makes wrong: tests whose result no arithmetic of fewer digits can give."""

from __future__ import annotations

import re

_JUMPS = "a result that jumps: inputs that are equal, or at a threshold, in fewer digits choose another one"
_BITS = "it reads the bits of a number, which another format does not have"
_SUMS = "only ONNX's reference runs it in BF16, and it adds in BF16 too, which a kernel does in FP32"

KNOWN: tuple[tuple[str, str, str], ...] = (
    (r"argm(ax|in)|hardmax|unique|top_k|sign($|_)|nonmaxsuppression|maxpool_with_argmax", "", _JUMPS),
    (r"floor|ceil|round|mod_|_mod|equal|greater|less|nonzero|isinf|isnan|where|det_", "", _JUMPS),
    (r"bitcast", "", _BITS),
    (r"sce_NCd1d2d3d4d5|nllloss_NCd1d2d3d4d5|operator_symbolic_override|_large_", "bf16/written", _SUMS),
    (r"reduce_prod", "fp16", "products of twelve factors overflow"),
    (r"pow", "fp16", "powers of up to 10^12 overflow"),
    (r"softmax_large_number", "fp16|bf16|int8", "exp of 10,000, where neighbours in half precision are 8 apart"),
    (
        r"attention.*qk_matmul.*(mask|causal)",
        "",
        "masked scores are an output, and the number that masks is a matter of taste",
    ),
    (r"resize_downsample.*align_corners", "bf16/written", "ONNX's reference computes coordinates in BF16 too"),
)
"""A pattern of names of tests, one of forms, and the reason."""


def why_known(test: str, form: str) -> str | None:
    """Return why the result of a test in a form must be wrong, or None if it must not."""
    return next((why for name, where, why in KNOWN if re.search(name, test) and re.search(where, form)), None)
