"""Reading what TensorRT says of a built engine: the inspector's JSON of 8.6, 10 and 11, the RTX builder's log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor, Shape
from autoprec.errors import BackendError

_DTYPES = (
    ("bf16", r"bfloat16|bf16"),
    ("e8m0", r"e8m0"),
    ("nvfp4", r"fp4|float4|e2m1"),
    ("fp8", r"fp8|float8|e4m3"),
    ("fp16", r"half|fp16|float16"),
    ("int4", r"\bint4"),
    ("int8", r"\bint8"),
    ("uint8", r"uint8"),
    ("int64", r"int64"),
    ("int32", r"int32"),
    ("bool", r"bool"),
    ("fp32", r"fp32|tf32|float(?!\d)|float32"),
)
_SOURCE = "[ONNX Layer: "
# Names are joined by \x1e or \x1f; where an editor has dropped these, only the brackets are left.
_JOINT = re.compile(r"[\x1e\x1f]+(?=\[ONNX Layer: )|(?<=\])(?=\[ONNX Layer: )")
_LOG_LIST = re.compile(r"(?:^|\s)Layers:\n(?=Name: )")
_LOG_END = re.compile(r"\n\s*\n")
_LOG_NEXT = re.compile(r"\n(?=Name: )")
_LOG_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], "
    r"(?:TacticName: (?P<tactic>.*?), )?StreamId: -?\d+(?:, [^\n]*?)??(?:, Metadata: ?(?P<sources>.*))?",
    re.DOTALL,
)
_LOG_TENSOR = re.compile(
    r"\s*\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[^\]]*)\].*?, Datatype: (?P<dtype>[^,}]*)"
    r"(?:, Format: (?P<format>.*?))? \},?\s*(?=\{ Name: |\Z)",
    re.DOTALL,
)
_NAMES_ONLY = (
    "the engine must be built with profiling_verbosity = ProfilingVerbosity.DETAILED; this one lists only the names "
    "of its layers, so nothing can be said about what runs in which precision. Build it again"
)


def parse_layers(text: str) -> tuple[EngineLayer, ...]:
    """The layers of an engine, in its order.

    Args:
        text: the JSON of TensorRT's engine inspector (8.6, 10 or 11), or the list that begins with "Layers:" in the
            log of TensorRT-RTX's builder, alone or inside the log; of several lists the first is read.

    Raises:
        BackendError: the text is neither, is damaged, or belongs to an engine built without detailed verbosity.
    """
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if plain.lstrip().startswith("{"):
        return _from_json(plain)
    if (start := _LOG_LIST.search(plain)) is not None:
        return _from_log(plain[start.end() :])
    if "Engine Layer Information:" in plain:
        raise BackendError(_NAMES_ONLY)
    found = f"it begins with {plain.strip()[:60]!r}" if plain.strip() else "it is empty"
    raise BackendError(
        "the layers of an engine must come as the JSON of TensorRT's engine inspector or as the list "
        f'"Layers:" of the log of TensorRT-RTX\'s builder; this text is neither: {found}'
    )


def dtype_of(text: str) -> str:
    """The number format in words such as "Half" or "Row major linear FP32 format"; "" where they name none."""
    lowered = text.lower()
    return next((name for name, pattern in _DTYPES if re.search(pattern, lowered)), "")


def sources_of(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes in a layer's metadata, each once: "[ONNX Layer: a]" and so on, joined by control characters.

    What TensorRT appends to a name that it rewrote, "[ONNX Layer: a]__gemm_from_conv1x1", is left out.
    """
    parts = [part for part in _JOINT.split(metadata) if part.startswith(_SOURCE) and "]" in part]
    return tuple(dict.fromkeys(part[len(_SOURCE) : part.rindex("]")] for part in parts))


# --- JSON ------------------------------------------------------------------------------------------------


def _from_json(text: str) -> tuple[EngineLayer, ...]:
    try:
        record = json.loads(text, strict=False)  # 8.6 writes raw control characters
    except json.JSONDecodeError as error:
        raise BackendError(f"TensorRT's engine information must be JSON, but it is damaged: {error}") from error
    entries = record.get("Layers")
    if not isinstance(entries, list):
        keys = ", ".join(sorted(map(str, record))) or "nothing"
        raise BackendError(f'TensorRT\'s engine information must hold a list "Layers"; found {keys}')
    if not entries or any(isinstance(entry, str) for entry in entries):
        raise BackendError(_NAMES_ONLY)
    return tuple(_json_layer(entry, index) for index, entry in enumerate(entries))


def _json_layer(entry: object, index: int) -> EngineLayer:
    if not isinstance(entry, dict) or not isinstance(entry.get("Name"), str):
        raise BackendError(f"layer {index} of TensorRT's engine information must be an object with a name: {entry!r}")
    return EngineLayer(
        name=entry["Name"],
        kind=str(entry.get("LayerType", "")),
        nodes=sources_of(str(entry.get("Metadata", ""))),
        inputs=tuple(_json_tensors(entry, "Inputs")),
        outputs=tuple(_json_tensors(entry, "Outputs")),
        constants=(*_json_tensors(entry, "Constants"), *_json_weights(entry)),
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or ""),
        operation=str(entry.get("ParameterType", "")),
    )


def _json_tensors(entry: Mapping[str, Any], key: str) -> Iterator[LayerTensor]:
    tensors = entry.get(key) or []
    for tensor in tensors if isinstance(tensors, list) else [tensors]:
        if not isinstance(tensor, dict):
            raise BackendError(f"{key} of layer {entry['Name']!r} must be objects with a name and a type: {tensor!r}")
        layout = str(tensor.get("Format") or tensor.get("Format/Datatype") or "")
        text = tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Format/Datatype") or layout
        yield LayerTensor(str(tensor.get("Name", "")), _shape(tensor.get("Dimensions")), dtype_of(str(text)), layout)


def _json_weights(entry: Mapping[str, Any]) -> Iterator[LayerTensor]:
    """From entries such as {"Type": "Int8", "Count": 864}; the count is 0 where there is no bias."""
    for key in ("Weights", "Bias"):
        held = entry.get(key)
        if isinstance(held, dict) and isinstance(held.get("Count"), int) and held["Count"] > 0:
            yield LayerTensor(key, (held["Count"],), dtype_of(str(held.get("Type", ""))))


def _shape(dimensions: object) -> Shape:
    return tuple(dim if isinstance(dim, int) else -1 for dim in dimensions) if isinstance(dimensions, list) else ()


# --- the builder's log -----------------------------------------------------------------------------------


def _from_log(text: str) -> tuple[EngineLayer, ...]:
    listed = _LOG_END.split(text, maxsplit=1)[0]
    return tuple(_log_layer(entry.rstrip("\n")) for entry in _LOG_NEXT.split(listed))


def _log_layer(entry: str) -> EngineLayer:
    found = _LOG_LAYER.fullmatch(entry)
    if found is None:
        raise BackendError(
            "each layer in the log of TensorRT-RTX's builder must have a name, a type, inputs, constants and "
            f"outputs; this one cannot be read: {entry[:200]!r}"
        )
    return EngineLayer(
        name=found["name"],
        kind=found["kind"],
        nodes=sources_of(found["sources"] or ""),
        inputs=_log_tensors(found["inputs"], found["name"]),
        outputs=_log_tensors(found["outputs"], found["name"]),
        constants=_log_tensors(found["constants"], found["name"]),
        tactic=found["tactic"] or "",
    )


def _log_tensors(text: str, layer: str) -> tuple[LayerTensor, ...]:
    tensors, index = [], 0
    while index < len(text.rstrip()):
        found = _LOG_TENSOR.match(text, index)
        if found is None:
            raise BackendError(
                f"each tensor of layer {layer!r} in the log of TensorRT-RTX's builder must have a name, dimensions and "
                f"a type; this cannot be read: {text[index : index + 200]!r}"
            )
        dims = [dim.strip() for dim in found["shape"].split(",") if dim.strip()]
        shape = tuple(int(dim) if re.fullmatch(r"-?\d+", dim) else -1 for dim in dims)
        tensors.append(LayerTensor(found["name"], shape, dtype_of(found["dtype"]), found["format"] or ""))
        index = found.end()
    return tuple(tensors)
