"""What mathematics makes wrong: tests whose result no arithmetic of fewer digits can give, each by its exact name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .judge import BAD


class Known(NamedTuple):
    """A result that must be wrong.

    Attributes:
        variant: "plain" or "sandwich".
        test: the name of the test.
        forms: the precisions and ways in which it is wrong, such as "fp16/written", under at least one scheme.
        why: the mathematical reason.
    """

    variant: str
    test: str
    forms: frozenset[str]
    why: str


def _each(variant: str, why: str, tests: Mapping[str, str]) -> Iterable[Known]:
    return (Known(variant, f"test_{name}", frozenset(forms.split()), why) for name, forms in tests.items())


_JUMP = "its result jumps: inputs that are equal, or at a threshold, in fewer digits give another index, code or size"
_BITS = "it reads the bits of a number, which another format does not have"
_SUMS = "only ONNX's reference runs it in BF16, and it adds in BF16 too, which a kernel does in FP32"
_EXP = "exp of 10,000, where neighbours in half precision are 8 apart"
_POWER = (
    "a power that overflows, or of a negative number, which exists for whole exponents only, gained or lost by rounding"
)
_NARROW = "a function that exists from 1 on only, of a number so near to 1 that rounding takes it below"
_PRODUCT = "a product of twelve factors overflows in FP16"
_MASK = "masked scores are an output, and which number masks is not defined"

_BF16 = "bf16/simulated bf16/written"
_LOWER = f"{_BF16} fp16/simulated"
_HALF = f"{_LOWER} fp16/written"
_MASKED = "bf16/simulated fp16/simulated fp16/written fp32/written"
_MASKED_IN_ALL = f"{_MASKED} fp8/simulated fp8/written int8/simulated int8/written"

KNOWN: tuple[Known, ...] = (
    *_each(
        "plain",
        _EXP,
        {
            "logsoftmax_large_number": _LOWER,
            "logsoftmax_large_number_expanded": _LOWER,
            "logsoftmax_large_number_expanded_ver18": _LOWER,
            "softmax_large_number": _LOWER,
            "softmax_large_number_expanded": _LOWER,
            "softmax_large_number_expanded_ver18": _LOWER,
        },
    ),
    *_each(
        "plain",
        _JUMP,
        {
            "maxpool_with_argmax_2d_precomputed_pads": "bf16/written",
        },
    ),
    *_each(
        "plain",
        _MASK,
        {
            "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal": _MASKED,
            "attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal": _MASKED,
        },
    ),
    *_each(
        "plain",
        _PRODUCT,
        {
            "reduce_prod_default_axes_keepdims_example": "fp16/simulated",
        },
    ),
    *_each(
        "plain",
        _SUMS,
        {
            "nllloss_NCd1d2d3d4d5_mean_weight": "bf16/written",
            "nllloss_NCd1d2d3d4d5_mean_weight_expanded": "bf16/written",
            "operator_symbolic_override": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_expanded": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_log_prob": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_log_prob_expanded": "bf16/written",
        },
    ),
    *_each(
        "sandwich",
        _BITS,
        {
            "bitcast_2d_float32_to_int32": _HALF,
            "bitcast_float32_to_int32": _HALF,
        },
    ),
    *_each(
        "sandwich",
        _EXP,
        {
            "logsoftmax_large_number": f"{_HALF} int8/simulated int8/written",
            "logsoftmax_large_number_expanded": f"{_HALF} int8/simulated int8/written",
            "logsoftmax_large_number_expanded_ver18": f"{_HALF} int8/simulated int8/written",
            "softmax_large_number": f"{_HALF} int8/simulated int8/written",
            "softmax_large_number_expanded": f"{_HALF} int8/simulated int8/written",
            "softmax_large_number_expanded_ver18": f"{_HALF} int8/simulated int8/written",
        },
    ),
    *_each(
        "sandwich",
        _JUMP,
        {
            "argmax_keepdims_example_select_last_index": _BF16,
            "argmax_keepdims_example": _LOWER,
            "argmax_negative_axis_keepdims_example": _LOWER,
            "argmax_negative_axis_keepdims_example_select_last_index": _BF16,
            "argmax_no_keepdims_example_select_last_index": _BF16,
            "argmax_no_keepdims_example": _LOWER,
            "argmin_keepdims_example_select_last_index": _LOWER,
            "argmin_negative_axis_keepdims_example_select_last_index": _LOWER,
            "argmin_no_keepdims_example_select_last_index": _LOWER,
            "dynamicquantizelinear": _HALF,
            "dynamicquantizelinear_expanded": _HALF,
            "dynamicquantizelinear_max_adjusted": _BF16,
            "dynamicquantizelinear_max_adjusted_expanded": _BF16,
            "dynamicquantizelinear_min_adjusted_expanded": f"{_BF16} int8/simulated int8/written",
            "dynamicquantizelinear_min_adjusted": "bf16/simulated bf16/written int8/simulated int8/written",
            "hardmax_axis_1": _BF16,
            "hardmax_one_hot": _HALF,
            "maxpool_with_argmax_2d_precomputed_pads": "bf16/written",
            "nonmaxsuppression_center_point_box_format": "int8/simulated int8/written",
            "nonmaxsuppression_flipped_coordinates": "int8/simulated int8/written",
            "nonmaxsuppression_iou_threshold_boundary": "fp16/simulated fp16/written int8/simulated int8/written",
            "nonmaxsuppression_suppress_by_IOU": "int8/simulated int8/written",
            "nonmaxsuppression_suppress_by_IOU_and_scores": "int8/simulated int8/written",
            "round": _HALF,
            "sign": _HALF,
            "sign_model": "fp16/simulated fp16/written",
            "thresholdedrelu_example": "fp16/written",
            "thresholdedrelu_example_expanded_ver18": "fp16/written",
            "unique_not_sorted_without_axis": "bf16/simulated fp16/written",
            "unique_sorted_with_negative_axis": "fp16/simulated",
            "unique_sorted_without_axis": "bf16/simulated fp16/written",
        },
    ),
    *_each(
        "sandwich",
        _POWER,
        {
            "pow": "fp16/written",
        },
    ),
    *_each(
        "sandwich",
        _PRODUCT,
        {
            "reduce_prod_default_axes_keepdims_example": "fp16/simulated",
        },
    ),
    *_each(
        "sandwich",
        _NARROW,
        {
            "acosh_example": _BF16,
        },
    ),
    *_each(
        "sandwich",
        _MASK,
        {
            "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal": _MASKED_IN_ALL,
            "attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal": _MASKED_IN_ALL,
        },
    ),
    *_each(
        "sandwich",
        _SUMS,
        {
            "nllloss_NCd1d2d3d4d5_mean_weight": "bf16/written",
            "nllloss_NCd1d2d3d4d5_mean_weight_expanded": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_expanded": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_log_prob": "bf16/written",
            "sce_NCd1d2d3d4d5_mean_weight_log_prob_expanded": "bf16/written",
        },
    ),
)
"""All of them, sorted by variant and reason; the benchmark fails where one of them is not needed."""


def why_known(variant: str, test: str, form: str) -> str | None:
    """Return why the result of a test in a form must be wrong, or None if it must not.

    Args:
        variant: "plain" or "sandwich".
        test: the name of the test.
        form: scheme, precision and way, such as "ort-cpu/fp16/written".
    """
    short = form.partition("/")[2]
    return next((k.why for k in KNOWN if (k.variant, k.test) == (variant, test) and short in k.forms), None)


def unneeded(variant: str, seen: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the entries of the list that were looked at and are right.

    Args:
        variant: "plain" or "sandwich".
        seen: test -> form -> what became of it.
    """
    return [
        f"{k.test} {form}"
        for k in KNOWN
        if k.variant == variant and k.test in seen
        for form in sorted(k.forms)
        if not any(word in BAD for key, word in seen[k.test].items() if key.partition("/")[2] == form)
    ]
