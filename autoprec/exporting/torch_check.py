"""Whether an exported model computes what its module computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autoprec.backends.ort_sessions import open_session, session_options
from autoprec.data.items import array_of
from autoprec.errors import ModelError
from autoprec.exporting.signature import Signature
from autoprec.exporting.structure import tensors_in
from autoprec.exporting.torch_call import prepared_call, returned_by
from autoprec.precision import Array

_TOLERANCE = 2e-3
_HALF_TOLERANCE = 0.1
"""By how much of an output's largest value the exported model may differ: kernels add up in orders of their own."""


def check_export(module: Any, example: Any, signature: Signature, path: Path) -> None:
    """Refuse an exported model whose outputs for the example are not those of the module.

    Raises:
        ModelError: they are not, or the module gives others each time.
    """
    if Path(f"{path}.data").exists():  # of more than 1.9 GB; ONNX Runtime would hold it a second time
        return
    call = prepared_call(module, example)
    feed = dict(signature.tensors(call.arguments.args, call.arguments.kwargs))
    wanted = _arrays(signature, returned_by(module, call))
    try:
        session = open_session(str(path), session_options(1))
        types = {slot.name: slot.type for slot in session.get_inputs()}
        found = session.run(list(wanted), {name: array_of(feed[name], name, "the example") for name in types})
    except Exception:  # ONNX Runtime raises plain RuntimeErrors; a backend tells what it cannot run
        return
    worst = _worst(wanted, dict(zip(wanted, found, strict=True)))
    if worst is None:
        return
    again = _worst(wanted, _arrays(signature, returned_by(module, call)))
    if again is not None:
        raise ModelError(
            f"{signature.name} gives other outputs each time in evaluation mode ({again}), so that nothing can be "
            f"compared with it; make it deterministic"
        )
    raise ModelError(
        f"the exported model does not compute what {signature.name} does: {worst}; this is a fault of torch's "
        f"exporter, or the module computes something while it is traced that it does not compute later"
    )


def _arrays(signature: Signature, returned: Any) -> dict[str, Array]:
    named = dict(tensors_in(signature.outputs, returned, "the output"))
    return {name: array_of(tensor, name, "the output") for name, tensor in named.items()}


def _worst(wanted: dict[str, Array], found: dict[str, Array]) -> str | None:
    for name, right in wanted.items():
        half = right.dtype == np.float16 or right.dtype.kind not in "fiub"
        if right.dtype.kind != "f" or not right.size:
            continue
        tolerance = _HALF_TOLERANCE if half or found[name].dtype.itemsize < 4 else _TOLERANCE
        left = np.asarray(found[name], np.float64)
        finite = np.isfinite(right)
        if left.shape != right.shape or not np.array_equal(finite, np.isfinite(left)):
            return f"output {name!r} has shape {left.shape} and not {right.shape}, or other infinite values"
        largest = float(np.abs(right[finite]).max(initial=0.0))
        difference = float(np.abs(left - right)[finite].max(initial=0.0))
        if difference > tolerance * largest + 1e-6:
            return f"output {name!r} differs by {difference:.2g} where its largest value is {largest:.2g}"
    return None
