"""Reading ONNX files: what is no model, and weights that lie beside the model."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from autoprec.errors import ModelError
from autoprec.graph import onnx_file
from autoprec.graph.model import check_model, load_model, to_bytes

from ..helpers.networks import conv_relu, if_body, mlp, random_feed, resnet_block, run_unoptimised, write

FOLDER = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def external(model: onnx.ModelProto, folder: Path, data: str = "weights.bin") -> Path:
    """Save `model` with every initializer in the file `data`."""
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


def test_external_data_is_read_into_memory(tmp_path: Path) -> None:
    proto = conv_relu()
    feed = random_feed(proto, 2)
    path = external(conv_relu(), tmp_path)
    loaded = load_model(path)
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(
        run_unoptimised(to_bytes(loaded.ir), feed), run_unoptimised(proto.SerializeToString(), feed)
    )
    inside = load_model(write(proto, tmp_path, "inside.onnx"))
    assert loaded.weights_fingerprint == inside.weights_fingerprint
    assert loaded.graph_fingerprint == inside.graph_fingerprint


def test_a_link_to_a_model_reads_the_data_beside_the_link(tmp_path: Path) -> None:
    store, shown = tmp_path / "store", tmp_path / "shown"
    store.mkdir()
    shown.mkdir()
    external(conv_relu(), store).rename(store / "0a1b")
    (store / "weights.bin").rename(shown / "weights.bin")
    (shown / "model.onnx").symlink_to(store / "0a1b")
    assert load_model(shown / "model.onnx").interface.inputs[0].name == "x"


def test_loading_writes_nothing(tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    load_model(path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an ONNX model, or it is truncated: it holds no graph; export it again"),
        (b"this is text, and no model\n" * 40, "is not an ONNX model"),
        (bytes(np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)), "is not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "is not an ONNX model"),
    ],
    ids=["empty", "text", "random", "image"],
)
def test_a_file_that_is_no_model(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_model(path)


@pytest.mark.parametrize("name", ["model.txt", "model.json", "model.textproto", "model"])
def test_the_name_of_a_file_does_not_decide_how_it_is_read(name: str, tmp_path: Path) -> None:
    assert load_model(write(mlp(), tmp_path, name)).interface.inputs


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file: .*gone\.onnx; give the path of an ONNX model"):
        load_model(tmp_path / "gone.onnx")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder; give the path of the ONNX file in it"):
        load_model(tmp_path)


MLP_BYTES = mlp().SerializeToString()


@FOLDER
@given(st.integers(0, len(MLP_BYTES) - 1))
def test_every_truncation_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MLP_BYTES[:length])
    with pytest.raises(ModelError, match=r"truncated|not valid ONNX"):
        load_model(path)


def test_the_last_bytes_are_missed_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for missing in range(1, 200):
        path.write_bytes(MLP_BYTES[:-missing])
        with pytest.raises(ModelError, match=r"truncated|not valid ONNX"):
            load_model(path)


@FOLDER
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_file_loads_or_is_refused_but_never_crashes(tmp_path: Path, damage: list[tuple[int, int]]) -> None:
    """Damage at the end is in the graph's structure, not in the weights."""
    content = bytearray(MLP_BYTES)
    for place, change in damage:
        content[-1 - place] ^= change
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        load_model(path)


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    (tmp_path / "weights.bin").unlink()
    words = r"keeps weight 'conv\.w' in the file 'weights\.bin', which is missing; put it beside the model"
    with pytest.raises(ModelError, match=words):
        load_model(path)


@pytest.mark.parametrize("kept", [0, 1, 0.5])
def test_truncated_external_data(kept: float, tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    data = tmp_path / "weights.bin"
    content = data.read_bytes()
    data.write_bytes(content[: -1 if kept == 1 else int(kept * len(content))])
    with pytest.raises(ModelError, match=r"the weight file 'weights\.bin' of .* is truncated; copy it again"):
        load_model(path)


def edit_entry(path: Path, key: str, value: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", ""])
def test_external_data_must_lie_in_the_models_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(conv_relu(), folder)
    edit_entry(path, "location", location)
    with pytest.raises(ModelError, match="must lie in the model's folder"):
        load_model(path)


@pytest.mark.parametrize(("key", "value"), [("length", "12"), ("offset", "-4"), ("offset", "many")])
def test_a_broken_reference_to_external_data(key: str, value: str, tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    edit_entry(path, key, value)
    with pytest.raises(ModelError, match=r"weight 'conv\.w' .*export the model again"):
        load_model(path)


@pytest.mark.parametrize("hard", [True, False])
def test_external_data_that_is_a_link_to_elsewhere(hard: bool, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(conv_relu(), folder)
    (folder / "weights.bin").rename(tmp_path / "blob")
    if hard:
        (folder / "weights.bin").hardlink_to(tmp_path / "blob")
    else:
        (folder / "weights.bin").symlink_to(tmp_path / "blob")
    with pytest.raises(ModelError, match="which is a link to elsewhere; put a copy beside the model"):
        load_model(path)


def test_external_data_in_a_body_is_checked_too(tmp_path: Path) -> None:
    path = external(if_body(), tmp_path)
    proto = onnx.load(path, load_external_data=False)
    body = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g
    tensor = body.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"in the file 'gone\.bin', which is missing"):
        load_model(path)


def test_the_checker_passes_models_too_large_for_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(write(resnet_block(), tmp_path))
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", 1000)
    check_model(loaded.ir)
    next(iter(loaded.graph)).op_type = "Conw"
    with pytest.raises(ModelError, match="not valid ONNX, please report this"):
        check_model(loaded.ir)
