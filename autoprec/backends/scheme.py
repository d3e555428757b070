"""How a runtime wants a network quantised.

TensorRT takes symmetric INT8 or FP8 with Q/DQ on the inputs of linear ops; ONNX Runtime's CPU kernels
take unsigned asymmetric activations and fuse a convolution only when its output is quantised too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoprec.errors import UsageError
from autoprec.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One runtime's way of writing a quantised network.

    Attributes:
        name: the name that plans and run directories store: "tensorrt", "tensorrt-8", "tensorrt-rtx", "ort-cpu", or
            another for a backend of your own.
        symmetric: activations are INT8 around zero; else UINT8 with a zero point.
        quantize_outputs: a quantised convolution, pool or Add also has a pair on its result.
        tensor_core_limits: small convolutions and products stay float, because their 8-bit
            kernels do not exist or are slower. Without it, the size of an operand never matters.
        dequantize_after_gather: an INT8 embedding is looked up first and converted afterwards.
        float_islands: a float op between quantised ones must be kept from being quantised by the
            runtime's own optimiser.
        gemms_as_products: a Gemm is written as MatMul and Sub, which have a kernel from 8 bits to float.
        norms_as_convs: a normalisation behind an activation is written as a convolution, to stay in 8 bits.
        quantize_norms: such a normalisation between 8-bit layers reads a pair, so that the convolution before it writes
            8 bits and it has an 8-bit kernel. TensorRT 8.6 runs it in FP32 otherwise: EtinyNet in INT8 then took 1.37
            of FP16's latency on an H200, with the pairs 0.62.
        shortcuts_as_convs: a shortcut made of a Slice and a Pad is written as a convolution, so that the Add behind it
            is fused and nothing has to be converted before it.
        pairs_at_producers: a value that an INT8 convolution writes and another one reads is read in 8 bits by all its
            readers, so that the convolution writes 8 bits; TensorRT 8.6 lets it write FP16 otherwise, and dequantises
            and quantises around it.
        strongly_typed: the types of tensors say what runs in which float type; else the model stays FP32 with Q/DQ,
            and each node's metadata says it.
        newest_opset: the newest opset that the runtime reads, None for any.
        absent: the precisions that the runtime has no kernels for at all -> why, as one clause for the user.
        float_ops: the operators that stay float where others of their kind run in INT8 -> why, as one clause.
        transposes_stay_fp32: a Transpose before a product is written in FP32, between two Casts where the product is in
            half precision. ONNX Runtime 1.32 ends the process while it optimises LayerNormalization -> Transpose ->
            MatMul in FP16.
        dynamic_products: whether a product of two values that both change at run time has an 8-bit kernel.
        dynamic_activations: whether a product may read activations that are quantised at run time, in
            DynamicQuantizeLinear.
        weight_blocks: whether a product may read activations in float and weights in codes: of 4 bits with a scale
            for each block, or of 8 bits with one for each column.
        scaled_blocks: whether a product may read MXFP8 or NVFP4, in TensorRT's own operators.
        block_kernels: whether such a product is written as MatMulNBits, an operator of ONNX Runtime's own.
        largest_weight: the largest INT8 code of a weight that is multiplied. Where two products of an unsigned and a
            signed byte are added in 16 bits, 64 is the largest that never saturates: 2 * 255 * 64 < 2**15.
        variant_of: the name of the scheme that this one differs from in nothing but codes, None for most; a runtime
            runs what either of them wrote.
    """

    name: str
    symmetric: bool
    quantize_outputs: bool
    tensor_core_limits: bool
    dequantize_after_gather: bool
    float_islands: bool
    gemms_as_products: bool
    norms_as_convs: bool
    strongly_typed: bool = True
    newest_opset: int | None = None
    quantize_norms: bool = False
    shortcuts_as_convs: bool = False
    pairs_at_producers: bool = False
    absent: Mapping[Precision, str] = field(default_factory=dict, hash=False)
    float_ops: Mapping[str, str] = field(default_factory=dict, hash=False)
    transposes_stay_fp32: bool = False
    dynamic_products: bool = True
    dynamic_activations: bool = False
    weight_blocks: bool = False
    scaled_blocks: bool = False
    block_kernels: bool = False
    largest_weight: int = 127
    variant_of: str | None = None

    @property
    def family(self) -> str:
        """The name that all variants of a scheme share."""
        return self.variant_of or self.name


_NO_FP64 = {Precision.FP64: "TensorRT has no FP64"}
TENSORRT = Scheme(
    name="tensorrt",
    absent=_NO_FP64,
    symmetric=True,
    quantize_outputs=False,
    tensor_core_limits=True,
    dequantize_after_gather=False,
    float_islands=False,
    gemms_as_products=False,
    norms_as_convs=False,
    quantize_norms=True,
    weight_blocks=True,
    scaled_blocks=True,
)
TENSORRT_8 = replace(
    TENSORRT,
    name="tensorrt-8",
    strongly_typed=False,
    newest_opset=17,
    shortcuts_as_convs=True,
    pairs_at_producers=True,
    weight_blocks=False,
    scaled_blocks=False,
    absent={**_NO_FP64, Precision.FP8: "TensorRT 8.6 has no FP8", Precision.BF16: "TensorRT 8.6 has no BF16"},
)
TENSORRT_RTX = replace(
    TENSORRT,
    name="tensorrt-rtx",
    quantize_norms=False,
    float_ops={"ConvTranspose": "TensorRT-RTX computes ConvTranspose in float whatever its operands are stored in"},
)
ORT_CPU = Scheme(
    name="ort-cpu",
    symmetric=False,
    quantize_outputs=True,
    tensor_core_limits=False,
    dequantize_after_gather=True,
    float_islands=True,
    gemms_as_products=True,
    norms_as_convs=True,
    newest_opset=27,  # ONNX Runtime 1.32 has no QuantizeLinear of opset 28, which onnx writes already
    absent={Precision.FP8: "ONNX Runtime has no FP8 kernels on a CPU"},
    float_ops={
        "ConvTranspose": "ONNX Runtime has no 8-bit ConvTranspose on a CPU",
        "GlobalMaxPool": "ONNX Runtime has no 8-bit GlobalMaxPool on a CPU",
    },
    transposes_stay_fp32=True,
    dynamic_products=False,
    dynamic_activations=True,
    weight_blocks=True,
    block_kernels=True,
)
ORT_CPU_7BIT = replace(ORT_CPU, name="ort-cpu-7bit", largest_weight=64, variant_of=ORT_CPU.name)
"""For x86 CPUs without VNNI. With 8-bit weights KWT-1 in uniform INT8 scored 9.6 % on such a CPU, in exact arithmetic
96.8, and with 7-bit weights 96.5 in both."""
SCHEMES = {scheme.name: scheme for scheme in (TENSORRT, TENSORRT_8, TENSORRT_RTX, ORT_CPU, ORT_CPU_7BIT)}


def scheme_named(name: str, own: Scheme | None = None) -> Scheme:
    """The scheme called `name`, as plans, baselines and run directories store it.

    Args:
        name: the name.
        own: the scheme of the backend at hand, which need not be one of autoprec's.

    Raises:
        UsageError: there is no such scheme.
    """
    if own is not None and own.name == name:
        return own
    if name not in SCHEMES:
        raise UsageError(
            f"a scheme must be one of {', '.join(SCHEMES)}, got {name!r}; if a backend of your own brings it, "
            f"pass that backend"
        )
    return SCHEMES[name]


def same_family(one: str, other: str) -> bool:
    """Whether the schemes of these names are the same or variants of one another."""
    return one == other or (one in SCHEMES and other in SCHEMES and SCHEMES[one].family == SCHEMES[other].family)


def scheme_of_space(made_for: str | None, own: Scheme) -> Scheme:
    """The scheme by which a search space is looked at where nothing is timed.

    Args:
        made_for: the backend that the space is made for, None for any.
        own: the scheme of the backend at hand.

    Returns:
        TensorRT's scheme for its own spaces and for those of any backend, so that they can be looked at without a GPU.
    """
    return TENSORRT if made_for in (None, TENSORRT.name) else own
