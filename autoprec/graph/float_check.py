"""The check that the weights of a model are finite, without which nothing can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.errors import ModelError
from autoprec.graph.topology import (
    COPY_OPS,
    FLOAT_TYPES,
    RESHAPING_OPS,
    SELECTING_OPS,
    all_graphs,
    const_array,
    main_domain,
)

# The operators that compare, select or fill with a constant, so that one that is not finite is a mask or an open bound.
_TAKES_ANY = frozenset(
    {
        "Where",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "IsNaN",
        "IsInf",
        "Not",
    }
)
_TAKES_INFINITY = _TAKES_ANY | {
    "Add",
    "Sub",
    "Clip",
    "Min",
    "Max",
    "Softmax",
    "LogSoftmax",
    "Attention",
    "Loop",
    "If",
    "Scan",
}
# The operators whose results hold the numbers of their first input alone, so that it matters who reads those.
_MOVES = RESHAPING_OPS | SELECTING_OPS | {"Cast", "CastLike"}
# The operators that put a constant beside what the model computes: what they fill in is no weight.
_FILLS = COPY_OPS - _MOVES - {"Where"}


def check_weights(model: ir.Model, file: Path) -> None:
    """Check that every float weight is finite.

    Raises:
        ModelError: a weight holds NaN, or an infinity that is not a mask or a bound; the message names it.
    """
    weights = [value for graph in all_graphs(model.graph) for value in graph.initializers.values()]
    for value in weights:
        array = const_array(value) if value.dtype in FLOAT_TYPES else None
        if array is None or np.isfinite(array).all():
            continue
        allowed = _TAKES_ANY if np.isnan(array).any() else _TAKES_INFINITY
        if not _readers(value) <= allowed:
            raise ModelError(f"weight {value.name!r} of {file} holds NaN or infinity; train or export the model again")


def _readers(value: ir.Value) -> set[str]:
    """Return the operators that take in the numbers of a constant, perhaps after they were moved or converted."""
    found: set[str] = set()
    waiting, seen = [value], {value}
    while waiting:
        for node in waiting.pop().consumers():
            if main_domain(node) and node.op_type in _MOVES:
                new = [output for output in node.outputs if output not in seen]
                waiting, seen = waiting + new, seen | set(new)
            elif main_domain(node) and node.op_type not in _FILLS:
                found.add(node.op_type)
    return found
