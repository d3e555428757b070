"""Downward steps: how a node is written for the opset before the one in which its operator changed or appeared.

Each function gets a node of the form since the change. It edits or replaces it, or raises NotConvertible where the
older opset cannot say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.opset.site import NotConvertible, Site
from autoprec.graph.opset.steps_up import REDUCTIONS, Step
from autoprec.graph.topology import is_float
from autoprec.precision import Array

_SAME_WITHOUT_AXES = ("Max", "Mean", "Min", "Prod")  # of one number each of these is the number itself


def _positive(axes: Sequence[int], rank: int) -> list[int]:
    return [int(axis) % rank for axis in axes]


def _reduce_18(site: Site) -> None:
    axes = site.array(1, "its axes").reshape(-1).tolist() if site.input(1) is not None else []
    keeps = site.integer("noop_with_empty_axes", 0)
    site.drop("noop_with_empty_axes")
    site.cut_inputs(1)
    if not axes and keeps:
        if site.node.op_type.removeprefix("Reduce") not in _SAME_WITHOUT_AXES:
            raise NotConvertible("noop_with_empty_axes = 1 without axes is not known there")
        site.node.op_type = "Identity"
        site.drop("keepdims")
    if axes:
        site.put("axes", [int(axis) for axis in axes])


def _split_18(site: Site) -> None:
    count = site.integer("num_outputs", len(site.node.outputs))
    site.drop("num_outputs")
    shape, axis = site.first().shape, site.integer("axis", 0)
    size = shape[axis] if shape is not None else None
    if site.input(1) is None and isinstance(size, int) and size % count:
        part = -(-size // count)
        site.set_input(1, site.indices("sizes", [part] * (count - 1) + [size - part * (count - 1)]))


def _pad_18(site: Site) -> None:
    if site.input(3) is not None:
        axes = _positive(site.array(3, "its axes").tolist(), site.rank())
        given = site.array(1, "its pads").tolist()
        pads = [0] * (2 * site.rank())
        for index, axis in enumerate(axes):
            pads[axis], pads[axis + site.rank()] = given[index], given[index + len(axes)]
        site.set_input(1, site.indices("pads", pads))
    site.cut_inputs(3)


def _pad_19(site: Site) -> None:
    if site.text("mode", "constant") == "wrap":
        raise NotConvertible("the mode wrap is not known there")


def _resize_18(site: Site) -> None:
    if site.integer("antialias", 0):
        raise NotConvertible("antialias is not known there")
    if site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotConvertible("keep_aspect_ratio_policy is not known there")
    axes = site.integers("axes")
    site.drop("antialias", "keep_aspect_ratio_policy", "axes")
    if axes is None:
        return
    rank = site.rank()
    order = _positive(axes, rank)
    for index, default in ((1, None), (2, 1.0), (3, 0)):
        value = site.input(index)
        tensor = ir.convenience.get_const_tensor(value) if value is not None else None
        if value is None or (tensor is not None and not tensor.size):
            continue
        if default is None:
            raise NotConvertible("a roi of some axes is not known there")
        site.set_input(index, _all_sizes(site, value, order) if index == 3 else _all_scales(site, order))


def _all_scales(site: Site, order: list[int]) -> ir.Value:
    scales = np.ones(site.rank(), np.float32)
    scales[order] = site.array(2, "its scales")
    return site.constant("scales", scales)


def _all_sizes(site: Site, sizes: ir.Value, order: list[int]) -> ir.Value:
    """The sizes of all axes: those that are not resized keep what they have."""
    shape = site.new("Shape", [site.first()], None, "shape")
    where = site.indices("resized", order)
    return site.new("ScatterElements", [shape, where, sizes], {"axis": 0}, "sizes")


def _resize_19(site: Site) -> None:
    if site.text("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise NotConvertible("the mode half_pixel_symmetric is not known there")
    if site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotConvertible("keep_aspect_ratio_policy has another meaning there")


def _average_pool_19(site: Site) -> None:
    if any(step != 1 for step in site.integers("dilations") or ()):
        raise NotConvertible("dilations are not known there")
    if site.integer("ceil_mode", 0) and any(map(_starts_in_padding, *_windows(site))):
        raise NotConvertible("a last window that starts in the padding counts there")
    site.drop("dilations")


def _max_pool_22(site: Site) -> None:
    if site.integer("ceil_mode", 0) and any(map(_starts_in_padding, *_windows(site))):
        raise NotConvertible("a last window that starts in the padding counts there")


def _windows(site: Site) -> tuple[tuple[int, ...], ...]:
    """Return the sizes, kernels, strides and paddings on both sides of a pool along each axis; none where unknown."""
    shape, kernel = site.first().shape, site.integers("kernel_shape") or ()
    sizes = tuple(size for size in (shape or ())[2:] if isinstance(size, int))
    if len(sizes) != len(kernel) or site.text("auto_pad", "NOTSET") != "NOTSET":
        return ((), (), (), (), ())
    pads = site.integers("pads") or (0,) * 2 * len(kernel)
    strides = site.integers("strides") or (1,) * len(kernel)
    return sizes, kernel, strides, pads[: len(kernel)], pads[len(kernel) :]


def _starts_in_padding(size: int, kernel: int, stride: int, before: int, after: int) -> bool:
    last = -(-(size + before + after - kernel) // stride) * stride
    return last >= size + before


def _mod_28(site: Site) -> None:
    if not site.integer("fmod", 0) and is_float(site.first()):
        raise NotConvertible("a remainder of floats has the sign of the dividend there, so that fmod must be 1")


def _dft_20(site: Site) -> None:
    axis = int(site.array(2, "its axis")) if site.input(2) is not None else -2
    if axis < 0:
        axis %= site.rank()
    site.cut_inputs(2)
    site.put("axis", axis)


def _grid_sample_20(site: Site) -> None:
    if site.rank() != 4:
        raise NotConvertible("it takes only four axes there")
    mode = site.text("mode", "linear")
    site.put("mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))


def _group_normalization(site: Site, per_group: bool) -> None:
    """Normalise the groups as the instances of InstanceNormalization, then scale each channel."""
    rank, groups, source = site.rank(), site.integer("num_groups", 1), site.first()
    ones = site.like_input("ones", [1.0] * groups if groups > 1 else [1.0, 1.0])
    zeros = site.like_input("zeros", [0.0] * groups if groups > 1 else [0.0, 0.0])
    if groups == 1:  # a list of one number
        ones, zeros = (site.new("Slice", [v, *_first_only(site)], None, "one") for v in (ones, zeros))
    split = site.new("Reshape", [source, site.indices("grouped", [0, groups, -1])], None, "groups")
    epsilon = {"epsilon": site.number("epsilon", 1e-5)}
    normal = site.new("InstanceNormalization", [split, ones, zeros], epsilon, "normalised")
    shape = site.new("Shape", [source], None, "shape")
    merged = site.new("Reshape", [normal, shape], None, "merged")
    scale, bias = (_of_channels(site, index, rank, per_group) for index in (1, 2))
    scaled = site.new("Mul", [merged, scale], None, "scaled")
    site.replace(site.new("Add", [scaled, bias], None, "shifted"))


def _first_only(site: Site) -> list[ir.Value]:
    return [site.indices("start", [0]), site.indices("end", [1])]


def _of_channels(site: Site, index: int, rank: int, per_group: bool) -> ir.Value:
    """The scale or the bias of a GroupNormalization with one axis for each but the first of the input."""
    wish, axes = ("scale", "bias")[index - 1], [1] * (rank - 2)
    value = site.input(index)
    array = ir.convenience.get_const_tensor(value) if value is not None else None
    if per_group:
        shape = site.first().shape
        channels = shape[1] if shape is not None else None
        if array is None or not isinstance(channels, int):
            raise NotConvertible("its scale must be constant, and the number of channels known")
        numbers: Array = np.repeat(array.numpy(), channels // site.integer("num_groups", 1))
        return site.constant(wish, numbers.reshape(-1, *axes))
    if array is not None:
        return site.constant(wish, array.numpy().reshape(-1, *axes))
    return site.new("Reshape", [value, site.indices(f"{wish}_shape", [-1, *axes])], None, wish)


def _group_normalization_18(site: Site) -> None:
    _group_normalization(site, per_group=True)


def _group_normalization_21(site: Site) -> None:
    _group_normalization(site, per_group=False)


def _gelu_20(site: Site) -> None:
    """Write x * 0.5 * (1 + erf(x / sqrt 2)), or its approximation by tanh; Hendrycks and Gimpel, 2016."""
    source = site.first()
    half, one = site.like_input("half", [0.5]), site.like_input("one", [1.0])
    if site.text("approximate", "none") == "tanh":
        square = site.new("Mul", [source, source], None, "square")
        bent = site.new("Mul", [square, site.like_input("bend", [0.044715])], None, "bent")
        factor = site.new("Add", [bent, one], None, "factor")
        inner = site.new("Mul", [source, factor], None, "inner")
        scaled = site.new("Mul", [inner, site.like_input("scale", [math.sqrt(2 / math.pi)])], None, "scaled")
        gate = site.new("Tanh", [scaled], None, "tanh")
    else:
        scaled = site.new("Div", [source, site.like_input("root", [math.sqrt(2)])], None, "scaled")
        gate = site.new("Erf", [scaled], None, "erf")
    shifted = site.new("Add", [gate, one], None, "shifted")
    gated = site.new("Mul", [source, shifted], None, "gated")
    site.replace(site.new("Mul", [gated, half], None, "gelu"))


def _mish_18(site: Site) -> None:
    gate = site.new("Tanh", [site.new("Softplus", [site.first()], None, "softplus")], None, "tanh")
    site.replace(site.new("Mul", [site.first(), gate], None, "mish"))


def _swish_24(site: Site) -> None:
    source, alpha = site.first(), site.number("alpha", 1.0)
    inner = source if alpha == 1.0 else site.new("Mul", [source, site.like_input("alpha", [alpha])], None, "inner")
    site.replace(site.new("Mul", [source, site.new("Sigmoid", [inner], None, "gate")], None, "swish"))


def _rms_normalization_23(site: Site) -> None:
    source, axis = site.first(), site.integer("axis", -1)
    axes = [-1] if axis == -1 else list(range(axis % site.rank(), site.rank()))
    square = site.new("Mul", [source, source], None, "square")
    mean = site.new("ReduceMean", [square, site.indices("axes", axes)], {"keepdims": 1}, "mean")
    shifted = site.new("Add", [mean, site.like_input("epsilon", [site.number("epsilon", 1e-5)])], None, "shifted")
    normal = site.new("Div", [source, site.new("Sqrt", [shifted], None, "root")], None, "normalised")
    site.replace(site.new("Mul", [normal, site.input(1)], None, "scaled"))


STEPS_DOWN: dict[tuple[str, int], Step] = {
    ("AveragePool", 19): _average_pool_19,
    ("DFT", 20): _dft_20,
    ("Gelu", 20): _gelu_20,
    ("GridSample", 20): _grid_sample_20,
    ("GroupNormalization", 18): _group_normalization_18,
    ("GroupNormalization", 21): _group_normalization_21,
    ("LpPool", 18): _average_pool_19,
    ("MaxPool", 22): _max_pool_22,
    ("Mish", 18): _mish_18,
    ("Mod", 28): _mod_28,
    ("Pad", 18): _pad_18,
    ("Pad", 19): _pad_19,
    ("RMSNormalization", 23): _rms_normalization_23,
    ("Resize", 18): _resize_18,
    ("Resize", 19): _resize_19,
    ("Split", 18): _split_18,
    ("Swish", 24): _swish_24,
    **{(f"Reduce{kind}", 18): _reduce_18 for kind in REDUCTIONS},
}
