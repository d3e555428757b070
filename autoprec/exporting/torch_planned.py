"""A plan as a torch module: it takes tensors as the module that was tuned did, and returns what that returned."""

from __future__ import annotations

from typing import Any

import torch

from autoprec.backends.ort_engine import OrtEngine
from autoprec.data.items import array_of
from autoprec.exporting.signature import Signature
from autoprec.precision import Array


def planned_module(session: Any, signature: Signature | None) -> PlannedModule:
    """Return the module that runs a session.

    Args:
        session: a session of ONNX Runtime.
        signature: how the module is called; by default with the inputs of the session.
    """
    return PlannedModule(session, signature or _signature_of(session))


def _signature_of(session: Any) -> Signature:
    inputs = [slot.name for slot in session.get_inputs()]
    outputs = [slot.name for slot in session.get_outputs()]
    several = {"dict": [[name, {"tensor": name}] for name in outputs]}
    plain = all(name.isidentifier() for name in inputs)
    # A name such as "x:0" is no parameter's, so such inputs are taken by their order.
    parameters: list[tuple[str, str, list[Any]]] = [
        (name if plain else f"input_{number}", "POSITIONAL_OR_KEYWORD", []) for number, name in enumerate(inputs)
    ]
    return Signature(
        name="the plan",
        parameters=parameters,
        inputs={parameters[number][0]: {"tensor": name} for number, name in enumerate(inputs)},
        outputs={"tensor": outputs[0]} if len(outputs) == 1 else several,
    )


class PlannedModule(torch.nn.Module):  # type: ignore[misc]
    """A plan that is called as the module was that it was made for. It has no weights to train.

    Args:
        session: a session of ONNX Runtime.
        signature: how the module is called.
    """

    def __init__(self, session: Any, signature: Signature) -> None:
        super().__init__()
        self._engine, self._signature = OrtEngine(session), signature
        self._halves = {slot.name for slot in session.get_inputs() if slot.type == "tensor(float16)"}
        # Evaluation loops ask the first parameter for the device of a module.
        self.device_of_module = torch.nn.Parameter(torch.empty(0), requires_grad=False)
        self.eval()

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Run the plan.

        Raises:
            TypeError: the arguments are not of the form that the module was exported with.
        """
        given = dict(self._signature.tensors(arguments, named))
        device = next((t.device for t in given.values() if torch.is_tensor(t)), self.device_of_module.device)
        feed = {name: array_of(tensor, name, "the call") for name, tensor in given.items()}
        for name in self._halves & set(feed):
            feed[name] = feed[name].astype("float16")
        outputs = self._engine.run(feed)
        return self._signature.returned({name: _tensor(array).to(device) for name, array in outputs.items()})


def _tensor(array: Array) -> torch.Tensor:
    if array.dtype.kind not in "fiub":  # BF16, which torch does not take from NumPy
        return torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
    return torch.from_numpy(array)
