"""Types that neither schemas nor shape inference tell, as behind an operator of another domain: seen in one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from autoprec.backends.make import CPU_BACKEND, make_backend
from autoprec.backends.protocol import Backend
from autoprec.errors import AutoprecError
from autoprec.graph.model import Model, to_bytes
from autoprec.graph.schemas import complete_types
from autoprec.precision import Array
from autoprec.units.find import find_units
from autoprec.units.records import Partition

_LENGTHS = (1, 32, 224)
"""The lengths of free dimensions that are tried in turn: the least, a sequence's, an image's."""


def units_of(model: Model, known: Collection[str] = ()) -> Partition:
    """Return the units of a model, whose values have all types that can be found out.

    Args:
        model: the model.
        known: the names of the units that a plan or a run has. An earlier version did not look at a run, so where the
            units that are found without one are these, they are it.
    """
    found = find_units(model.graph)
    if known and {unit.name for unit in found.units} == set(known):
        return found
    return find_units(model.graph) if complete_types_in_run(model) else found


def complete_types_in_run(model: Model) -> bool:
    """Give each value without a type the one that it has in a run of the model, and say whether any has.

    The numbers do not matter, so that the inputs are zeros and no data is needed. Where the model does not run, as with
    an operator that the runtime does not know, types stay unknown, and the reasons of the nodes say so.
    """
    unknown = {str(v.name): v for node in model.graph for v in node.outputs if v.type is None and v.name}
    if not unknown:
        return False
    found: Mapping[str, ir.TypeProtocol] = {}
    backend = make_backend(CPU_BACKEND)  # the same wherever the model is read, so that the units are
    for length in _LENGTHS:
        found = _types(model, list(unknown), length, backend)
        if found:
            break
    for name, kind in found.items():
        unknown[name].type = kind
    complete_types(model.graph, model.ir.opset_imports)
    return bool(found)


def _types(model: Model, names: list[str], length: int, backend: Backend) -> Mapping[str, ir.TypeProtocol]:
    work = model.ir.clone()
    values = {str(v.name): v for node in work.graph for v in node.outputs}
    work.graph.outputs.clear()
    work.graph.outputs.extend(values[name] for name in names)
    feed = {
        spec.name: np.zeros([dim if isinstance(dim, int) and dim > 0 else length for dim in spec.shape], spec.dtype)
        for spec in model.interface.inputs
    }
    try:
        with backend.build(to_bytes(work), exact=True) as engine:
            results = engine.run(feed)
    except AutoprecError:
        return {}
    return {name: kind for name in names if name in results and (kind := _type_of(results[name])) is not None}


def _type_of(result: Array | list[Array]) -> ir.TypeProtocol | None:
    if isinstance(result, list):
        element = _type_of(result[0]) if result else None
        return None if element is None else ir.SequenceType(element)
    try:
        return ir.TensorType(ir.DataType.from_numpy(np.asarray(result).dtype))
    except TypeError:  # as of texts
        return None
