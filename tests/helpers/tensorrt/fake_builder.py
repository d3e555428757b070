"""Enough of NVIDIA's builder for the process that builds: what it was told stands in the "engine", as JSON.

`make("8.6.0")` is a module like TensorRT 8.6, told layer by layer; from "10.0.0" on one that is strongly typed.
The network has one layer a node, with the quirks of the real parser's names.
"""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx

FLOAT, HALF, INT32, INT8 = "FLOAT", "HALF", "INT32", "INT8"
COMMAND = """
import sys
sys.path.insert(0, {folder!r})
import fake_builder
sys.modules["tensorrt"] = fake_builder.make({version!r}, {quirk!r})
from autoprec.backends.tensorrt.child import serve
serve()
"""


def command(version: str, quirk: str = "") -> tuple[str, ...]:
    """What starts the child with this module in the place of NVIDIA's."""
    code = COMMAND.format(folder=str(Path(__file__).parent), version=version, quirk=quirk)
    return (sys.executable, "-c", code)


class FakeTensor:
    def __init__(self, dtype: Any, shape: tuple[int, ...] = (1,), *, output: bool = False, name: str = "") -> None:
        self.dtype, self.shape, self.name = dtype, shape, name
        self.is_shape_tensor, self.is_network_output = False, output


class FakeLayer:
    """A layer that notes what it is asked for."""

    def __init__(
        self, name: str, kind: Any = "CONVOLUTION", outputs: tuple[Any, ...] = (FLOAT,), metadata: str = ""
    ) -> None:
        self.name, self.metadata, self.type = name, metadata, _named(kind)
        self.outputs = [tensor if isinstance(tensor, FakeTensor) else FakeTensor(_named(tensor)) for tensor in outputs]
        self.num_outputs = len(self.outputs)
        self.precision: Any = None
        self.output_types: dict[int, Any] = {}

    def get_output(self, index: int) -> FakeTensor:
        return self.outputs[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype


def _named(kind: Any) -> Any:
    return SimpleNamespace(name=kind) if isinstance(kind, str) else kind


class _Code:
    def name(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "ErrorCode.UNSUPPORTED_NODE"


class FakeCache:
    def __init__(self, data: bytes) -> None:
        self.entries = set(filter(None, data.decode().split(",")))

    def serialize(self) -> bytes:
        return ",".join(sorted(self.entries)).encode()

    def combine(self, other: FakeCache, ignore_mismatch: bool) -> bool:
        self.entries |= other.entries
        return True


class FakeConfig:
    def __init__(self) -> None:
        self.flags: list[str] = []
        self.pools: dict[str, int] = {}
        self.profiles: list[FakeProfile] = []
        self.cache: FakeCache | None = None
        self.builder_optimization_level = 3
        self.profiling_verbosity: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.append(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile: FakeProfile) -> int:
        self.profiles.append(profile)
        return 0

    def create_timing_cache(self, data: bytes) -> FakeCache:
        return FakeCache(data)

    def set_timing_cache(self, cache: FakeCache, ignore_mismatch: bool) -> bool:
        if "other GPU" in cache.entries and not ignore_mismatch:
            return False
        self.cache = cache
        return True


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Any]] = {}

    def set_shape(self, name: str, *shapes: Any) -> None:
        self.shapes[name] = list(shapes)


class FakeNetwork:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.inputs: list[FakeTensor] = []
        self.layers: list[FakeLayer] = []
        self.num_outputs = 0

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_input(self, index: int) -> FakeTensor:
        return self.inputs[index]

    def get_layer(self, index: int) -> FakeLayer:
        return self.layers[index]


def make(version: str, quirk: str = "") -> Any:
    """The module.

    Args:
        version: its `__version__`.
        quirk: "no driver": making a builder fails; "no engine": building fails with an error in the log; "exit": the
            process ends with code 3 while building, after words in the log; "warn": building gives warnings,
            "warn once": the first time only;
            "not obeyed", "not bound": there are no kernels if precisions must be obeyed, or so much as preferred.
    """
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    weak = version.startswith("8")
    _enumerations(module, weak)
    module.ILogger = type("ILogger", (), {})
    module.Builder = _builder(quirk)
    module.Runtime = _runtime("device_memory_size" if weak else "device_memory_size_v2")
    module.OnnxParser = _parser(module)
    return module


class FakeSerialized(bytes):
    """An engine as it is written to disk."""

    @property
    def nbytes(self) -> int:
        return len(self)


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def _enumerations(module: Any, weak: bool) -> None:
    flags = "FP16 INT8 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS TF32" if weak else "TF32"
    network_flags = [("EXPLICIT_BATCH", 0)] if weak else [("STRONGLY_TYPED", 1)]
    module.NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", network_flags)
    module.BuilderFlag = IntEnum("BuilderFlag", flags, start=0)
    module.ProfilingVerbosity = IntEnum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED", start=0)
    module.MemoryPoolType = IntEnum("MemoryPoolType", "WORKSPACE TACTIC_DRAM", start=0)
    module.LayerInformationFormat = IntEnum("LayerInformationFormat", "ONELINE JSON", start=0)
    module.DataType = IntEnum("DataType", "FLOAT HALF INT8 INT32", start=0)


def _exit() -> None:
    sys.stderr.write("Could not load library libcudnn_ops_infer.so.8. Error: no such file\n")
    sys.stderr.flush()
    sys.exit(3)


def _builder(quirk: str) -> Any:
    warned: list[bool] = []

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger
            if quirk == "no driver":
                logger.log(Severity.WARNING, "CUDA initialization failure with error: 35. Please check your CUDA")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags: int) -> FakeNetwork:
            return FakeNetwork(flags)

        def create_builder_config(self) -> FakeConfig:
            return FakeConfig()

        def create_optimization_profile(self) -> FakeProfile:
            return FakeProfile()

        def build_serialized_network(self, network: FakeNetwork, config: FakeConfig) -> Any:
            self.logger.log(Severity.VERBOSE, "Tactic 0x1 took 0.1 ms")
            self.logger.log(Severity.INFO, "Building the engine")
            if quirk == "exit":
                _exit()
            if quirk == "no engine":
                self.logger.log(Severity.ERROR, "2: [resizePhysical::145] Error Code 2: OutOfMemory (no further)")
                return None
            bound = {"not obeyed": "OBEY", "not bound": "_PRECISION_CONSTRAINTS"}.get(quirk)
            if bound is not None and any(bound in flag for flag in config.flags):
                self.logger.log(Severity.ERROR, "2: Assertion !n->candidateRequirements.empty() failed.")
                return None
            if quirk == "warn" or (quirk == "warn once" and not warned):
                warned.append(True)
                for _ in range(2):
                    self.logger.log(Severity.WARNING, "Weights are subnormal\n in FP16")
            if config.cache is not None:
                config.cache.entries |= {layer.name for layer in network.layers}
            return FakeSerialized(_told(network, config))

    return Builder


def _runtime(size_name: str) -> Any:
    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> Any:
            names = [layer["name"] for layer in json.loads(data)["layers"]]
            text = json.dumps({"Layers": [{"Name": name, "LayerType": "Fake"} for name in names], "Bindings": []})
            inspector = SimpleNamespace(get_engine_information=lambda form: text if form.name == "JSON" else "")
            return SimpleNamespace(create_engine_inspector=lambda: inspector, **{size_name: 4096})

    return Runtime


def _parser(module: Any) -> Any:
    class OnnxParser:
        num_errors = 1

        def __init__(self, network: FakeNetwork, logger: Any) -> None:
            self.network = network

        def parse(self, data: bytes) -> bool:
            graph = onnx.load_from_string(data).graph
            kept = {output.name for output in graph.output}
            for value in graph.input:
                dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
                self.network.inputs.append(FakeTensor(module.DataType.FLOAT, tuple(dims), name=value.name))
            kinds = {"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE"}
            for node in graph.node:
                if node.op_type == "Det":
                    return False
                outputs = tuple(FakeTensor(module.DataType.FLOAT, output=name in kept) for name in node.output)
                self.network.layers.append(FakeLayer(node.name, kinds.get(node.op_type, "ELEMENTWISE"), outputs))
            self.network.num_outputs = len(kept)
            return True

        def get_error(self, number: int) -> Any:
            # No node_name and node_operator, and a code whose name is a method, as in TensorRT 8.6.
            return SimpleNamespace(code=_Code, desc=lambda: "no importer", node=lambda: 0)

    return OnnxParser


def _told(network: FakeNetwork, config: FakeConfig) -> bytes:
    layers = [
        {
            "name": layer.name,
            "precision": getattr(layer.precision, "name", None),
            "outputs": {number: dtype.name for number, dtype in layer.output_types.items()},
        }
        for layer in network.layers
    ]
    return json.dumps(
        {
            "network_flags": network.flags,
            "flags": config.flags,
            "pools": config.pools,
            "level": config.builder_optimization_level,
            "verbosity": getattr(config.profiling_verbosity, "name", None),
            "shapes": [profile.shapes for profile in config.profiles],
            "layers": layers,
            "ranges": {t.name: t.dynamic_range for t in network.inputs if hasattr(t, "dynamic_range")},
        }
    ).encode()
