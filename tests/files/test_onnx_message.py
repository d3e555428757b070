"""What the outermost fields of a file say about whether it can be an ONNX model."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from autoprec.errors import ModelError
from autoprec.files.onnx_message import refuse_no_onnx

from ..helpers.networks import mlp, write


def test_a_model_passes(tmp_path: Path) -> None:
    refuse_no_onnx(write(mlp(), tmp_path))


def test_every_truncated_model_is_refused(tmp_path: Path) -> None:
    """A file that ends between two of its fields is still one, so that only those are left to the reader of ONNX."""
    whole = write(mlp(), tmp_path).read_bytes()
    cut = tmp_path / "cut.onnx"
    passed = []
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with contextlib.suppress(ModelError):
            refuse_no_onnx(cut)
            passed.append(length)

    assert len(passed) <= 1


@pytest.mark.parametrize("junk", [b"", b"junk" * 100, b"\xff" * 20, b"PK\x03\x04" + bytes(40)], ids=len)
def test_a_file_of_another_kind_is_refused(junk: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(junk)

    with pytest.raises(ModelError, match="export it again"):
        refuse_no_onnx(tmp_path / "junk.onnx")
