"""What is asked of TensorRT's builder, and what it says about the engine that it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Shape = tuple[int, ...]
Flavour = Literal["rtx", "strong", "weak"]
"""rtx: TensorRT-RTX, strongly typed only. strong: TensorRT 10 and 11, used strongly typed. weak: TensorRT 8.6, which
is told layer by layer."""


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """The shapes of one input that an engine must take: the least, the one it is tuned for, the largest."""

    least: Shape
    best: Shape
    largest: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        shapes: input name -> shapes; inputs of fixed shape may be left out.
        targets: compute capabilities such as "sm89" to build ahead of time for (TensorRT-RTX only); none for the
            GPU of this machine.
        workspace_mib: the most scratch memory, None for all.
        optimization_level: 0 to 5, None for TensorRT's own default.
        time_limit_s: a build that takes longer is killed.
        timing_cache: whether kernel timings of earlier builds are used.
        debug_tensors: whether the engine can show what its kernels write, see `debug_tensors.py`.
    """

    shapes: Mapping[str, ShapeProfile] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    workspace_mib: int | None = None
    optimization_level: int | None = None
    time_limit_s: float = 900.0
    timing_cache: bool = True
    debug_tensors: bool = False


@dataclass(frozen=True, slots=True)
class LayerTensor:
    """A tensor between engine layers, or a constant of one.

    Attributes:
        name: TensorRT's.
        shape: the shape, with concrete dimensions where the engine knows them.
        dtype: "fp32", "fp16", "bf16", "fp8", "int8", "int32", "int64", "bool", "uint8"; "" where it is not said.
        format: TensorRT's name of the memory layout.
    """

    name: str
    shape: Shape
    dtype: str
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of a built engine.

    Attributes:
        name: TensorRT's own name for it.
        kind: its layer type, such as "CaskConvolution", "kgen", "Reformat".
        nodes: names of the ONNX nodes that it computes, none for layers that TensorRT added.
        inputs: read.
        outputs: written.
        constants: weights and biases where the engine lists them.
        tactic: the kernel's name or number, "" where it is not said.
        operation: the parameter type or sub-operation where it is said, such as "Convolution".
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    constants: tuple[LayerTensor, ...] = ()
    tactic: str = ""
    operation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """A built engine on disk and how it was made.

    Attributes:
        path: the serialised engine.
        layers: the layers as the inspector lists them, in order; those of the first target where there are several.
        runtime: "tensorrt" or "tensorrt_rtx".
        version: the version of that runtime.
        hardware: the GPU's name and compute capability, or the targets built for.
        build_s: seconds of the builder itself, as measured when the engine was built.
        warm_timing_cache: whether it began with kernel timings of earlier builds.
        reused: whether it was found on disk instead of being built.
        engine_bytes: size of the file.
        activation_bytes: device memory for activations and scratch; None where the runtime does not say.
        warnings: the warnings of the builder and the parser.
    """

    path: Path
    layers: tuple[EngineLayer, ...]
    runtime: str
    version: str
    hardware: str
    build_s: float
    warm_timing_cache: bool
    reused: bool
    engine_bytes: int
    activation_bytes: int | None
    warnings: tuple[str, ...] = ()
