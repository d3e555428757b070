"""What `autoprec build` ships: the lowered model, the engine, and the proof beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.build import EngineWish, deliver, parse_shapes
from autoprec.errors import BackendError, DataError, RunDirectoryError, UsageError
from autoprec.precision import Precision
from autoprec.proof.delivered import Delivered

from .helpers.plan_files import tiny_plan

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
WISH = EngineWish(backend="tensorrt-rtx", targets=("sm89",))

rtx = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('tensorrt_rtx')",
    reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx",
)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.onnx and plan.json: INT8 but for conv2 in FP16."""
    return tiny_plan(tmp_path_factory.mktemp("delivery"), INT8, conv2=FP16).parent


@pytest.fixture(name="delivered", scope="module")
def _delivered(folder: Path) -> Delivered:
    pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")
    return deliver(folder / "plan.json", folder / "tiny.onnx", folder / "out" / "small.onnx", WISH)


def record_of(delivered: Delivered) -> dict[str, Any]:
    assert delivered.engine_path is not None
    found: dict[str, Any] = json.loads(delivered.engine_path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


# --- the engine ------------------------------------------------------------------------------------------


def test_model_engine_and_proof_lie_side_by_side(folder: Path, delivered: Delivered) -> None:
    assert delivered.model == folder / "out" / "small.onnx"
    assert delivered.engine_path == folder / "out" / "small.engine"
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "autoprec-files.json",
        "engines",
        "small.engine",
        "small.json",
        "small.onnx",
    ]


def test_the_engine_is_a_copy_of_the_kept_one(delivered: Delivered) -> None:
    assert delivered.engine is not None
    assert delivered.engine_path is not None

    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (delivered.engine.path, delivered.engine_path)}
    assert len(digests) == 1
    assert delivered.engine.engine_bytes == delivered.engine_path.stat().st_size > 10_000


def test_the_record_says_how_the_engine_was_made(delivered: Delivered, folder: Path) -> None:
    record = record_of(delivered)

    assert (record["schema"], record["kind"]) == (1, "autoprec engine")
    assert (record["runtime"], record["hardware"]) == ("tensorrt_rtx", "sm89")
    assert record["version"].split(".")[0] == "1"
    assert record["build_s"] > 0
    assert record["reused"] is False
    assert record["activation_bytes"] > 0
    assert record["plan"] == str(folder / "plan.json")
    assert "path" not in record  # of the folder where engines are kept, which may be emptied


def test_the_record_has_the_layers_with_their_nodes_and_types(delivered: Delivered) -> None:
    layers = record_of(delivered)["layers"]
    weights: dict[str, set[str]] = {}
    for layer in layers:
        for node in layer["nodes"]:
            weights.setdefault(node, set()).update(tensor["dtype"] for tensor in layer["constants"])

    assert "int8" in weights["conv1"] & weights["conv3"]
    assert "int8" not in weights["conv2"]
    assert "fp16" in weights["conv2"]
    assert all(layer["name"] and layer["kind"] for layer in layers)


def test_the_record_proves_every_unit(delivered: Delivered) -> None:
    verification = record_of(delivered)["verification"]
    ran = {name: (unit["requested"], unit["ran"]) for name, unit in verification["units"].items()}

    assert ran["conv1"] == ran["conv3"] == ("int8", "int8")
    assert ran["conv2"] == ("fp16", "fp16")
    assert set(ran) == {"conv1", "conv2", "conv3", "pool", "head"}
    assert sum(verification["counts"].values()) == 5
    assert verification["refused"] == []
    assert sum(verification["mac_share"].values()) == pytest.approx(1)
    assert delivered.verification is not None
    assert delivered.verification.complaint() is None


def test_the_model_is_the_one_that_the_engine_was_built_from(delivered: Delivered) -> None:
    model = onnx.load(delivered.model)
    onnx.checker.check_model(model, full_check=True)
    read = {output for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output}

    assert {node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in read} == {
        "conv1",
        "conv3",
    }
    assert delivered.counts[INT8.value] + delivered.counts[FP16.value] == 5


def test_the_second_time_the_engine_is_kept(delivered: Delivered, folder: Path) -> None:
    assert delivered.engine is not None
    again = deliver(folder / "plan.json", folder / "tiny.onnx", folder / "out" / "small.onnx", WISH)

    assert again.engine is not None
    assert again.engine.reused
    assert again.engine.path == delivered.engine.path
    assert again.to_record()["engine"]["reused"] is True


@rtx
def test_one_engine_for_several_targets_and_given_shapes(folder: Path, tmp_path: Path) -> None:
    wish = EngineWish(backend="tensorrt-rtx", targets=("sm89", "sm120"), shapes=["x:1x24x8x8:8x24x8x8:64x24x8x8"])
    found = deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert found.engine is not None
    assert found.engine.hardware == "sm89,sm120"
    assert record_of(found)["hardware"] == "sm89,sm120"


@rtx
def test_the_batch_is_for_inputs_without_shapes(folder: Path, tmp_path: Path) -> None:
    wish = EngineWish(backend="tensorrt-rtx", targets=("sm89",), batch=6)
    found = deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert found.engine is not None
    assert {tensor.shape[0] for layer in found.engine.layers for tensor in layer.inputs if tensor.name == "x"} == {6}


@rtx
def test_a_build_without_enough_time_is_ended_in_words(folder: Path, tmp_path: Path) -> None:
    wish = EngineWish(backend="tensorrt-rtx", targets=("sm89",), time_limit_s=0.01)
    with pytest.raises(BackendError, match=r"did not build the engine within 0.01 s and was stopped; allow it more"):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert not (tmp_path / "model.engine").exists()
    assert not (tmp_path / "model.json").exists()


@rtx
def test_fp8_for_ampere_is_refused_in_words(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, FP8)
    with pytest.raises(BackendError, match="sm80 lacks the precision fp8; leave it out of the plan, or build for newe"):
        deliver(
            plan, tmp_path / "tiny.onnx", tmp_path / "out.onnx", EngineWish(backend="tensorrt-rtx", targets=("sm80",))
        )

    assert not (tmp_path / "out.engine").exists()


@rtx
def test_an_engine_that_cannot_be_written_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.engine").mkdir()
    with pytest.raises(
        RunDirectoryError,
        match=r"model.engine must be a file to be written, but it is a folder; choose another by --out",
    ):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", WISH)

    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# --- where its time goes ---------------------------------------------------------------------------------


@rtx
def test_a_profile_lies_in_the_record_beside_the_engine(folder: Path, tmp_path: Path) -> None:
    """And in what is handed back; conv1 and conv3 are INT8, conv2 between them is FP16."""
    wish = replace(WISH, profile=True, batch=4)
    found = deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)
    profile = record_of(found)["profile"]

    assert profile == found.to_record()["profile"]
    assert profile["clock"] == "modelled for L4"
    assert profile["shapes"] == {"x": [4, 24, 8, 8]}
    assert {row["unit"]: row["ran"] for row in profile["units"]} == {
        "conv1": "int8",
        "conv2": "fp16",
        "conv3": "int8",
        "pool": "unknown",
        "head": "int8",
    }
    assert {(row["before"], row["after"]) for row in profile["boundaries"]} == {("", "conv1"), ("conv2", "conv3")}
    assert all(row["ms"] > 0 for row in profile["boundaries"])
    assert profile["attributed_share"] >= 0.95
    assert profile["layers_over_engine"] == pytest.approx(1)  # so the model has it
    listed = [row["ms"] for part in ("units", "boundaries", "rest") for row in profile[part]]
    assert sum(listed) == pytest.approx(profile["layers_ms"])


def test_without_the_wish_there_is_no_profile(delivered: Delivered) -> None:
    assert "profile" not in record_of(delivered)
    assert "profile" not in delivered.to_record()


@rtx
def test_a_modelled_profile_needs_one_shape(folder: Path, tmp_path: Path) -> None:
    """Which is said before an engine is built."""
    wish = replace(WISH, profile=True, shapes=["x:1x24x8x8:2x24x8x8:4x24x8x8"])
    with pytest.raises(UsageError, match=r"one shape for each input where latency is modelled for L4, but --shapes gi"):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert list(tmp_path.iterdir()) == []


@rtx
def test_a_profile_needs_figures_of_the_gpu(folder: Path, tmp_path: Path) -> None:
    wish = replace(WISH, profile=True, targets=("sm121",))
    with pytest.raises(UsageError, match="the latency of an engine for sm121 cannot be modelled"):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert list(tmp_path.iterdir()) == []


@rtx
def test_a_profile_that_fails_leaves_the_engine_and_its_proof(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BackendError("no layer times")

    monkeypatch.setattr("autoprec.backends.tensorrt.backend.attribute", refuse)
    with pytest.raises(BackendError, match="no layer times"):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", replace(WISH, profile=True))

    assert (tmp_path / "model.engine").is_file()
    assert "verification" in json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))


def test_onnx_runtime_profiles_without_an_engine(tmp_path: Path) -> None:
    """Between INT8 and FP32 its Q/DQ take time."""
    plan = tiny_plan(tmp_path, INT8, scheme="ort-cpu", conv2=Precision.FP32)
    wish = EngineWish(backend="ort-cpu", batch=16, profile=True)
    found = deliver(plan, tmp_path / "tiny.onnx", tmp_path / "out" / "model.onnx", wish)
    profile = found.to_record()["profile"]

    assert not list((tmp_path / "out").glob("*.engine"))
    assert "engine" not in found.to_record()
    assert profile["clock"].startswith("measured on ")
    assert profile["shapes"] == {"x": [16, 24, 8, 8]}
    ran = {row["unit"]: row["ran"] for row in profile["units"]}
    assert (ran["conv1"], ran["conv2"], ran["conv3"]) == ("int8", "fp32", "int8")
    between = {(row["before"], row["after"]): row["ms"] for row in profile["boundaries"]}
    assert between["conv1", "conv2"] > 0
    assert between["conv2", "conv3"] > 0
    assert profile["attributed_share"] >= 0.95


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (
            EngineWish(backend="cuda", profile=True),
            "tensorrt-rtx, and a profile alone is made by ort-cpu, got --backend cuda$",
        ),
        (
            EngineWish(backend="ort-cpu", targets=("sm89",), profile=True),
            "--target is for the backend tensorrt-rtx, got it with 'ort-",
        ),
    ],
)
def test_other_backends_make_no_profile(folder: Path, tmp_path: Path, wish: EngineWish, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", wish)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("y:1x24x8x8", "there is no input 'y' to shape; the engine has 'x'"),
        ("x:1x24x8", r"the input 'x' must have 4 axes, like \[1, 24, 8, 8\], got shape \[1, 24, 8\]"),
        ("x:1x23x8x8", "the input 'x' takes 24 on axis 1, got 23"),
    ],
)
def test_shapes_that_the_model_does_not_take_are_refused(tmp_path: Path, shape: str, words: str) -> None:
    plan = tiny_plan(tmp_path, INT8, scheme="ort-cpu")
    with pytest.raises(DataError, match=words):
        deliver(plan, tmp_path / "tiny.onnx", None, EngineWish(backend="ort-cpu", shapes=[shape], profile=True))


# --- without an engine -----------------------------------------------------------------------------------


def test_without_a_wish_there_is_a_model_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    found = deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["autoprec-files.json", "model.onnx"]
    assert (found.engine_path, found.engine, found.verification) == (None, None, None)
    assert set(found.to_record()) == {"written", "units", "bytes", "model_bytes"}


@pytest.mark.parametrize("name", ["ort-cpu", "cuda", ""])
def test_engines_are_built_by_tensorrt_only(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"engines are built by tensorrt or tensorrt-rtx, got --backend {name}$"):
        deliver(folder / "plan.json", folder / "tiny.onnx", tmp_path / "model.onnx", EngineWish(backend=name))

    assert list(tmp_path.iterdir()) == []


# --- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "shapes"),
    [
        ("x:1x3x224x224", "x", [(1, 3, 224, 224)] * 3),
        ("x:7", "x", [(7,)] * 3),
        ("x:1x8:4x8:16x8", "x", [(1, 8), (4, 8), (16, 8)]),
        ("input:0:1x3", "input:0", [(1, 3)] * 3),  # TensorFlow's names
        ("a:0:1x3:2x3:4x3", "a:0", [(1, 3), (2, 3), (4, 3)]),
        ("x y/z:2x2", "x y/z", [(2, 2)] * 3),
        ("scope:a:0:1x3", "scope:a:0", [(1, 3)] * 3),
        ("x:1:2:4", "x", [(1,), (2,), (4,)]),
    ],
)
def test_shapes_are_one_or_three(text: str, name: str, shapes: list[tuple[int, ...]]) -> None:
    assert parse_shapes([text]) == {name: ShapeProfile(*shapes)}


def test_several_inputs_have_shapes_each() -> None:
    assert set(parse_shapes(["ids:1x4", "mask:1x1x1x4"])) == {"ids", "mask"}
    assert parse_shapes([]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "",
        ":1x3",
        "x:",
        "x:1x",
        "x:1x-3",
        "x:axb",
        "x:1x3:2x3:",
        "1x3x224x224",
        "x:1,3",
        "x:1x3:2x3",
        "a:0:1x3:2x3",
        "x:1x3:2x3:4x3:8x3",
        "x:1x3:2x3:4",
    ],
)
def test_other_words_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shapes(["y:1x2", text])

    assert str(caught.value) == (
        f"--shapes must be INPUT:1x3x224x224, or INPUT:LEAST:BEST:LARGEST in that form, got {text!r}"
    )
