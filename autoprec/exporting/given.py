"""What may be tuned, besides files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import onnx
import onnx_ir as ir

FORMS = "the path of an ONNX model, a torch.nn.Module, an onnx.ModelProto or an onnx_ir.Model"


class TorchModule(Protocol):
    """What a torch.nn.Module has, for type checkers where torch is not installed."""

    training: bool

    @property
    def forward(self) -> Callable[..., Any]:
        """What the module computes."""

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        """The modules in it, with their paths."""


ModelLike = str | Path | onnx.ModelProto | ir.Model | TorchModule
"""What may be tuned."""
