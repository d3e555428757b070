"""Upward steps: how a node that was written for an older opset is written for the opset in which its operator changed.

Each function gets a node of the form before the change and edits or replaces it. The numbers are those of the ONNX
specification's changelog. What is only a wider choice of types or a new optional input needs no step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoprec.graph.opset.site import NotConvertible, Site

Step = Callable[[Site], None]

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
"""The kinds of Reduce operators whose axes became an input in opset 18; those of ReduceSum did so in 13."""


def _axes_to_input(site: Site) -> None:
    axes = site.integers("axes")
    site.drop("axes")
    if axes is not None:
        site.set_input(1, site.indices("axes", axes))


def _batch_normalization_9(site: Site) -> None:
    if site.integer("spatial", 1) != 1:
        raise NotConvertible("spatial = 0 has no successor")
    site.drop("spatial")


def _clip_11(site: Site) -> None:
    for index, name in enumerate(("min", "max"), 1):
        if name in site.node.attributes:
            site.set_input(index, site.like_input(name, [site.number(name, 0.0)]))
    site.drop("min", "max")


def _dropout_12(site: Site) -> None:
    if "ratio" in site.node.attributes:
        site.set_input(1, site.constant("ratio", np.array(site.number("ratio", 0.5), np.float32)))
    site.drop("ratio")


def _pad_11(site: Site) -> None:
    site.set_input(1, site.indices("pads", site.integers("pads") or ()))
    if site.text("mode", "constant") == "constant":
        site.set_input(2, site.like_input("value", [site.number("value", 0.0)]))
    site.drop("pads", "value")


def _softmax_13(site: Site) -> None:
    """Softmax was over all axes from `axis` on, taken as one; now it is over `axis` alone."""
    axis, rank = site.integer("axis", 1), site.rank()
    if axis % max(rank, 1) == rank - 1:
        site.put("axis", -1)
        return
    node = site.node
    flat = site.new("Flatten", [site.first()], {"axis": axis}, "flatten")
    soft = site.new(node.op_type, [flat], {"axis": -1}, "over_rows")
    shape = site.new("Shape", [site.first()], None, "shape")
    site.replace(site.new("Reshape", [soft, shape], None, "reshape"))


def _slice_10(site: Site) -> None:
    axes = site.integers("axes")
    site.set_input(1, site.indices("starts", site.integers("starts") or ()))
    site.set_input(2, site.indices("ends", site.integers("ends") or ()))
    if axes is not None:
        site.set_input(3, site.indices("axes", axes))
    site.drop("starts", "ends", "axes")


def _split_13(site: Site) -> None:
    sizes = site.integers("split")
    site.drop("split")
    if sizes is not None:
        site.set_input(1, site.indices("sizes", sizes))


def _split_18(site: Site) -> None:
    if site.input(1) is None:
        site.put("num_outputs", len(site.node.outputs))


def _top_k_10(site: Site) -> None:
    site.set_input(1, site.indices("k", [site.integer("k", 1)]))
    site.drop("k")


def _upsample_9(site: Site) -> None:
    scales = site.node.attributes["scales"].as_floats()
    site.drop("scales")
    site.set_input(1, site.constant("scales", np.array(scales, np.float32)))


def _upsample_10(site: Site) -> None:
    """Upsample was renamed to Resize."""
    site.node.op_type = "Resize"


def _resize_11(site: Site) -> None:
    """Resize read coordinates as x / scale, and took the nearest pixel before it, or behind it where it shrinks."""
    scales = site.input(1)
    if site.text("mode", "nearest") == "nearest":
        factors = site.array(1, "the scales of a nearest Resize of opset 10")
        if factors.min() < 1 < factors.max():
            raise NotConvertible("it enlarges one axis and shrinks another, which has no successor")
        site.put("nearest_mode", "ceil" if factors.min() < 1 else "floor")
    site.put("coordinate_transformation_mode", "asymmetric")
    site.set_input(2, scales)
    site.set_input(1, site.constant("roi", np.zeros(0, np.float32)))


def _roi_align_16(site: Site) -> None:
    site.put("coordinate_transformation_mode", "output_half_pixel")


def _scan_9(site: Site) -> None:
    raise NotConvertible("a Scan of opset 8 has a batch axis, which has no successor")


def _scatter_11(site: Site) -> None:
    site.node.op_type = "ScatterElements"


def _dft_20(site: Site) -> None:
    axis = site.integer("axis", 1)
    site.drop("axis")
    site.set_input(2, site.constant("axis", np.array(axis, np.int64)))


def _grid_sample_20(site: Site) -> None:
    mode = site.text("mode", "bilinear")
    site.put("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _group_normalization_21(site: Site) -> None:
    """Scale and bias were one number for each group; now they are one for each channel."""
    groups, shape = site.integer("num_groups", 1), site.first().shape
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int):
        raise NotConvertible("the number of channels must be known")
    for index, name in ((1, "scale"), (2, "bias")):
        array = site.array(index, f"the {name} of each group")
        site.set_input(index, site.constant(name, np.repeat(array, channels // groups)))


STEPS_UP: dict[tuple[str, int], Step] = {
    ("BatchNormalization", 9): _batch_normalization_9,
    ("Clip", 11): _clip_11,
    ("DFT", 20): _dft_20,
    ("Dropout", 12): _dropout_12,
    ("GridSample", 20): _grid_sample_20,
    ("GroupNormalization", 21): _group_normalization_21,
    ("Hardmax", 13): _softmax_13,
    ("LogSoftmax", 13): _softmax_13,
    ("Pad", 11): _pad_11,
    ("ReduceSum", 13): _axes_to_input,
    ("Resize", 11): _resize_11,
    ("RoiAlign", 16): _roi_align_16,
    ("Scan", 9): _scan_9,
    ("Scatter", 11): _scatter_11,
    ("Slice", 10): _slice_10,
    ("Softmax", 13): _softmax_13,
    ("Split", 13): _split_13,
    ("Split", 18): _split_18,
    ("Squeeze", 13): _axes_to_input,
    ("TopK", 10): _top_k_10,
    ("Unsqueeze", 13): _axes_to_input,
    ("Upsample", 9): _upsample_9,
    ("Upsample", 10): _upsample_10,
    **{(f"Reduce{kind}", 18): _axes_to_input for kind in REDUCTIONS},
}
