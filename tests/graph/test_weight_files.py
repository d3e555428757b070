"""Large models, whose weights stay in files from loading to writing: their limit is lowered to nothing here."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, TENSORRT, Scheme
from autoprec.errors import ModelError
from autoprec.files.onnx_message import OnnxMessage, whole_bytes
from autoprec.graph import onnx_file
from autoprec.graph.model import Model, check_model, load_model, save_model, to_bytes
from autoprec.graph.weight_files import LARGE_BYTES, FileWeight, WeightStore
from autoprec.graph.written import file_bytes, is_written, read_message, written, written_file
from autoprec.lowering.lowerer import Lowerer
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.units.find import find_units

from ..helpers.networks import random_feed, run_unoptimised, write
from ..helpers.onnx_builder import Builder

IN, HIDDEN = 256, 512
INT8, FP16, BF16, FP32 = Precision.INT8, Precision.FP16, Precision.BF16, Precision.FP32


def wide() -> onnx.ModelProto:
    """Two products whose weights count as large, with a Relu between them; the second one is stored transposed."""
    b = Builder()
    hidden = b.node("Relu", "relu", [b.linear("first", b.input("x", ["N", IN]), IN, HIDDEN)])
    turned = b.node("Transpose", "turn", [b.weight("second.w", IN, HIDDEN, fan_in=HIDDEN)], perm=[1, 0])
    b.node("MatMul", "second", [hidden, turned])
    b.output("second_out", ["N", IN])
    return b.model()


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 0)


def beside(proto: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def lowerer_of(model: Model, scheme: Scheme = ORT_CPU, carrier: Precision = FP32) -> Lowerer:
    return Lowerer(model, find_units(model.graph), scheme, carrier)


def ranges_of(model: Model) -> RangeTable:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    spans = {str(value.name): Range(-3.0, 3.0) for value in values}
    means = {str(value.name): np.full(value.shape[-1], 0.1) for value in values if value.shape is not None}
    return RangeTable(
        method="fixed", clipped=spans, extent=spans, means=means, samples=1, fingerprint="fixed", evidence={}
    )


def everywhere(lowerer: Lowerer, precision: Precision) -> dict[str, Precision]:
    return {unit.name: precision if unit.kind == "matmul" else FP32 for unit in lowerer.partition.units}


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_a_large_model_is_never_serialised_whole(place: str, tmp_path: Path, in_files: None) -> None:
    path = write(wide(), tmp_path) if place == "inside" else beside(wide(), tmp_path)
    loaded = load_model(path)
    lowerer, ranges = lowerer_of(loaded), ranges_of(loaded)
    messages = [to_bytes(loaded.original), to_bytes(loaded.ir)]
    messages += [to_bytes(lowerer.lower(everywhere(lowerer, p), ranges).ir) for p in (FP32, INT8)]
    messages += [to_bytes(lowerer.lower(everywhere(lowerer, p), ranges, simulate=True).ir) for p in (FP16, INT8)]
    for message in messages:
        assert isinstance(message, OnnxMessage)
        assert len(message) < 0.1 * whole_bytes(message)


@pytest.mark.parametrize("precision", [FP32, INT8, FP16, BF16])
def test_weights_in_files_change_no_bit_of_a_lowered_model(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (1 << 26, 0):
        monkeypatch.setattr(onnx_file, "INLINE_BYTES", limit)
        loaded = load_model(beside(wide(), tmp_path / str(limit)))
        assert (loaded.store is None) == bool(limit)
        lowerer, made = lowerer_of(loaded, ORT_CPU if precision is INT8 else TENSORRT), []
        for simulate in (True, False):
            lowered = lowerer.lower(everywhere(lowerer, precision), ranges_of(loaded), simulate=simulate)
            save_model(lowered.ir, tmp_path / "out.onnx")
            proto = onnx.load(tmp_path / "out.onnx")
            for tensor in proto.graph.initializer:
                tensor.ClearField("data_location")  # the default may be written or left out
            made.append(proto.SerializeToString())
        found.append(made)
    assert found[0] == found[1]


def test_fingerprints_do_not_depend_on_where_weights_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = load_model(write(wide(), tmp_path))
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 0)
    for path in (write(wide(), tmp_path), beside(wide(), tmp_path / "beside")):
        loaded = load_model(path)
        assert loaded.weights_fingerprint == known.weights_fingerprint
        assert loaded.graph_fingerprint == known.graph_fingerprint


@pytest.mark.parametrize("exact", [True, False])
def test_a_session_reads_weights_from_files(
    exact: bool, tmp_path: Path, in_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = random_feed(wide(), 2)
    message = to_bytes(load_model(beside(wide(), tmp_path)).ir)
    monkeypatch.chdir("/")  # what a place is relative to is not the current folder
    with OrtBackend(1).build(message, exact=exact) as engine:
        (found,) = engine.run(feed).values()
    np.testing.assert_allclose(found, run_unoptimised(wide().SerializeToString(), feed)[0], rtol=1e-5, atol=1e-6)


def test_a_session_outlives_the_model_that_it_was_made_of(tmp_path: Path, in_files: None) -> None:
    message = to_bytes(load_model(write(wide(), tmp_path)).ir)  # whose weights are in a temporary file
    gc.collect()
    with OrtBackend(1).build(message, exact=True) as engine:
        assert engine.run(random_feed(wide(), 2))
    store = Path(message.outside[0].path)  # type: ignore[attr-defined]
    del message, engine
    gc.collect()
    assert not store.exists()


def test_plans_share_what_is_made_of_a_weight(tmp_path: Path, in_files: None) -> None:
    loaded = load_model(beside(wide(), tmp_path))
    lowerer, ranges = lowerer_of(loaded), ranges_of(loaded)
    first, *_, last = (unit.name for unit in lowerer.partition.units if unit.kind == "matmul")
    assert loaded.store is not None
    sizes = []
    for plan in ({first: INT8, last: INT8}, {first: INT8}, {last: INT8}, {first: INT8, last: INT8}):
        lowerer.lower(plan, ranges)
        sizes.append(loaded.store.path.stat().st_size)
    assert sizes[0] > 0
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("limit", [1 << 30, 1000], ids=["one file", "two files"])
def test_a_written_large_model_loads_from_any_folder(
    limit: int, tmp_path: Path, in_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(write(wide(), tmp_path))
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", limit)
    lowerer = lowerer_of(loaded)
    lowered = lowerer.lower(everywhere(lowerer, INT8), ranges_of(loaded))
    check_model(lowered.ir)
    target, moved = tmp_path / "out" / "model.onnx", tmp_path / "moved"
    save_model(lowered.ir, target)
    feed, message = random_feed(wide(), 2), to_bytes(lowered.ir)
    with OrtBackend(1).build(message, exact=True) as engine:
        (expected,) = engine.run(feed).values()
    assert written(message) == written_file(target)
    assert is_written(target, *written(message))
    target.parent.rename(moved)
    names = {"model.onnx"} if limit > 1000 else {"model.onnx", "model.onnx.data"}
    assert {path.name for path in moved.iterdir()} == names
    assert file_bytes(moved / "model.onnx") == sum(path.stat().st_size for path in moved.iterdir())
    np.testing.assert_allclose(run_unoptimised(moved / "model.onnx", feed)[0], expected, rtol=1e-5, atol=1e-5)
    assert written(read_message(moved / "model.onnx")) == written(message)


def test_a_large_model_is_raised_to_a_newer_opset_with_its_weights(tmp_path: Path, in_files: None) -> None:
    loaded = load_model(beside(wide(), tmp_path))
    lowerer = lowerer_of(loaded, TENSORRT, BF16)
    lowered = lowerer.lower(everywhere(lowerer, BF16), None).ir
    weights = [value.const_value for value in lowered.graph.initializers.values()]
    large = [tensor for tensor in weights if tensor is not None and tensor.nbytes >= LARGE_BYTES]
    assert [tensor.dtype for tensor in large] == [ir.DataType.BFLOAT16] * 2
    assert [value.name for value in lowered.graph.inputs] == ["x"]


@pytest.mark.parametrize("fault", ["missing", "short"])
def test_weights_that_are_not_there_are_refused_by_the_name_of_their_file(
    fault: str, tmp_path: Path, in_files: None
) -> None:
    path, data = beside(wide(), tmp_path), tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    if fault == "missing":
        data.unlink()
    with pytest.raises(ModelError, match=r"weights\.bin.*(missing|truncated)"):
        load_model(path)


def test_an_array_of_a_weight_is_not_kept(tmp_path: Path) -> None:
    store = WeightStore()
    array = np.arange(LARGE_BYTES, dtype=np.float32).reshape(256, -1)
    tensor = store.put(array, "w")
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.numpy() is not tensor.numpy()
    assert not tensor.numpy().flags.writeable
    assert isinstance(tensor.renamed("v"), FileWeight)
    assert tensor.tobytes() == array.tobytes()
