"""ONNX's backend tests as models with data, alone or between two matrix products."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node as node_tests
import onnx.backend.test.loader as loader
import onnxruntime as ort
from onnx import helper, numpy_helper

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
_STORED = ("simple", "pytorch-converted", "pytorch-operator")
_WIDEST = 2048  # a square of the widest test has 10,000 rows, and takes minutes and gigabytes
_WIDTH = 16  # of the products behind outputs: the narrowest that has 8-bit kernels everywhere

Feed = dict[str, Any]


class Skip(Exception):
    """A test that says nothing about tuning."""


@dataclass(frozen=True)
class Case:
    """One model with data, and what ONNX Runtime makes of it.

    Attributes:
        name: the name of the test.
        model: the model.
        feed: input name -> data.
        reference: the outputs, or None where ONNX Runtime does not run the model.
    """

    name: str
    model: onnx.ModelProto
    feed: Feed
    reference: Sequence[Any] | None


def all_tests() -> list[Any]:
    """Return every node test that ONNX makes and every test that it stores; that takes ten seconds."""
    return [*node_tests.collect_testcases(None), *stored_tests()]


def stored_tests() -> list[Any]:
    """Return the tests that come as files with the package."""
    return [test for kind in _STORED for test in loader.load_model_tests(kind=kind)]


def made_by(*modules: str) -> list[Any]:
    """Return the node tests that some modules of ONNX make, such as "topk"."""
    for module in modules:
        importlib.import_module(f"{node_tests.__name__}.{module}")
    made = list(node_tests._NodeTestCases)
    wanted = {module.replace("_", "") for module in modules}
    return [test for test in made if any(_operator(test) == module for module in wanted)]


def _operator(test: Any) -> str:
    nodes = test.model.graph.node
    return str(nodes[0].op_type).lower() if len(nodes) == 1 else ""


def case_of(test: Any, variant: str) -> Case:
    """Return a test as a case.

    Args:
        test: one of ONNX's tests.
        variant: "plain", or "sandwich" for the operator between two products.

    Raises:
        Skip: it has no float input, or the variant does not apply.
    """
    model = test.model if test.model is not None else onnx.load(str(Path(test.model_dir, "model.onnx")))
    weights = {tensor.name for tensor in model.graph.initializer}
    if not any(_has_float(i.type) for i in model.graph.input if i.name not in weights):
        raise Skip("no float input")
    try:
        feed = _feed_of(test, model)
    except Exception as error:
        raise Skip(f"its data cannot be read: {error}") from error
    if variant == "sandwich":
        model, feed = _sandwiched(*_with_weights(model, feed))
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise Skip(f"ONNX itself does not take it: {str(error)[:80]}") from error
    try:
        reference = run(model.SerializeToString(), feed)
    except Exception:
        reference = None
    return Case(test.name, model, feed, reference)


def run(data: bytes, feed: Mapping[str, Any], *, exact: bool = False) -> list[Any]:
    """Return the outputs by ONNX Runtime; `exact` keeps it from fusing Q/DQ pairs."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    # Some kernels write into their inputs.
    copies = {k: (v.copy() if isinstance(v, np.ndarray) else v) for k, v in feed.items() if k in names}
    return list(session.run(None, copies))


def _has_float(kind: onnx.TypeProto) -> bool:
    if kind.HasField("tensor_type"):
        return kind.tensor_type.elem_type in FLOATS
    if kind.HasField("sequence_type"):
        return _has_float(kind.sequence_type.elem_type)
    return kind.HasField("optional_type") and _has_float(kind.optional_type.elem_type)


def _feed_of(test: Any, model: onnx.ModelProto) -> Feed:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if test.data_sets is not None:
        return dict(zip([i.name for i in inputs], test.data_sets[0][0], strict=False))
    return dict(_stored_feed(Path(test.model_dir, "test_data_set_0"), inputs))


def _stored_feed(folder: Path, inputs: Sequence[onnx.ValueInfoProto]) -> Iterator[tuple[str, Any]]:
    for number, info in enumerate(inputs):
        raw = (folder / f"input_{number}.pb").read_bytes()
        if info.type.HasField("sequence_type"):
            yield info.name, numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
        elif info.type.HasField("optional_type"):
            yield info.name, numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
        else:
            yield info.name, numpy_helper.to_array(onnx.TensorProto.FromString(raw))


def _with_weights(source: onnx.ModelProto, feed: Feed) -> tuple[onnx.ModelProto, Feed, str]:
    """Return the model with all inputs but its first FP32 tensor as initializers, its data and that input."""
    model = onnx.ModelProto.FromString(source.SerializeToString())
    graph, model.ir_version = model.graph, max(model.ir_version, 8)
    tensors = [i for i in graph.input if i.name in feed and i.type.HasField("tensor_type")]
    first = next((i.name for i in tensors if i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT), None)
    if first is None:
        raise Skip("no FP32 tensor as input")
    kept = []
    for info in graph.input:
        if info.name == first or not isinstance(feed.get(info.name), np.ndarray):
            kept.append(info)
        else:
            graph.initializer.append(numpy_helper.from_array(feed[info.name], info.name))
    del graph.input[:]
    graph.input.extend(kept)
    return model, {k: v for k, v in feed.items() if k in {i.name for i in kept}}, first


def _sandwiched(model: onnx.ModelProto, feed: Feed, first: str) -> tuple[onnx.ModelProto, Feed]:
    """Put a product before the input `first`, which an inverse in the data undoes, and one behind each float output."""
    graph, rng, x = model.graph, np.random.default_rng(0), feed[first]
    if not isinstance(x, np.ndarray) or x.ndim < 1 or x.size < 2:
        raise Skip("a scalar, or no array")
    if {o.domain: o.version for o in model.opset_import}.get("", 13) < 9:
        raise Skip("an opset with other products")
    width = x.shape[-1]
    if width > _WIDEST:
        raise Skip(f"a product of width {width}")
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(turn, "__before"))
    nodes = [helper.make_node("MatMul", [f"{first}__in", "__before"], [first], name="__pre"), *graph.node]
    feed = {k: v for k, v in feed.items() if k != first} | {
        f"{first}__in": (x @ np.linalg.inv(turn)).astype(np.float32)
    }
    for info in graph.input:
        info.name = f"{first}__in" if info.name == first else info.name
    del graph.node[:]
    graph.node.extend(nodes)
    try:
        known = dict(zip([o.name for o in graph.output], run(model.SerializeToString(), feed), strict=True))
    except Exception as error:
        raise Skip(f"ONNX Runtime does not run it: {str(error)[:80]}") from error
    results = [_with_product(graph, info, known[info.name], n, rng) for n, info in enumerate(list(graph.output))]
    del graph.output[:]
    graph.output.extend(results)
    return model, feed


def _with_product(
    graph: onnx.GraphProto, info: onnx.ValueInfoProto, y: Any, number: int, rng: np.random.Generator
) -> onnx.ValueInfoProto:
    """Put a product behind an output, where it is a float one, and return the new output."""
    if not isinstance(y, np.ndarray) or y.dtype != np.float32 or not y.ndim or not y.size or not np.isfinite(y).all():
        return info
    weights = (rng.normal(size=(y.shape[-1], _WIDTH)) / np.sqrt(y.shape[-1])).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, f"__after{number}"))
    names = [info.name, f"__after{number}"]
    graph.node.append(helper.make_node("MatMul", names, [f"__post{number}"], name=f"__post{number}"))
    return helper.make_tensor_value_info(f"__post{number}", onnx.TensorProto.FLOAT, [*y.shape[:-1], _WIDTH])
