"""Models with their weights brought inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from autoprec.backends.whole import with_weights_inside
from autoprec.errors import BackendError
from autoprec.files.onnx_message import FilePart, OnnxMessage
from autoprec.graph import onnx_file
from autoprec.graph.model import load_model, to_bytes

from ..helpers.networks import mlp, write


def test_a_backend_that_reads_no_files_gets_every_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(mlp(), tmp_path)
    expected = to_bytes(load_model(path).original)
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 0)
    monkeypatch.setattr(onnx_file, "LARGE_BYTES", 1)
    message = to_bytes(load_model(path).original)
    assert isinstance(message, OnnxMessage)
    found = onnx.load_from_string(with_weights_inside(message)).graph.initializer
    for before, after in zip(onnx.load_from_string(expected).graph.initializer, found, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(after), onnx.numpy_helper.to_array(before))
    assert with_weights_inside(expected) is expected


def test_what_fits_into_no_message_is_refused_in_words() -> None:
    message = OnnxMessage.of(b"", [FilePart("/weights", 0, 3_000_000_000)], b"")
    with pytest.raises(BackendError, match="3,000,000,000 bytes is too large for one ONNX message"):
        with_weights_inside(message)
