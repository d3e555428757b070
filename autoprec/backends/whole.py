"""Serialised models with all of their weights inside, for runtimes that read no weights from files."""

from __future__ import annotations

from autoprec.errors import BackendError
from autoprec.files.onnx_message import ROOT, OnnxMessage, whole_bytes

_MOST_BYTES = 2_000_000_000
"""What protobuf allows for one message, and a little less."""


def with_weights_inside(model: bytes) -> bytes:
    """Return a serialised model of which no weight lies in a file.

    Args:
        model: what a backend is asked to build.

    Raises:
        BackendError: one message cannot hold all of its weights.
    """
    if not isinstance(model, OnnxMessage):
        return model
    if whole_bytes(model) > _MOST_BYTES:
        raise BackendError(
            f"a model of {whole_bytes(model):,} bytes is too large for one ONNX message, and this backend does not "
            f"read weights from files; let it read the external data of the model, which is placed relative to {ROOT}"
        )
    import onnx

    proto = onnx.ModelProto.FromString(model)
    onnx.load_external_data_for_model(proto, ROOT)
    return bytes(proto.SerializeToString())
