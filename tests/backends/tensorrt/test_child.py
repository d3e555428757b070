"""What the building process asks of TensorRT 8.6 and of 10 and newer, and what it writes down."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.tensorrt.child import Loggers, Messages, read_timing_cache, run
from autoprec.backends.tensorrt.records import BuildOptions, ShapeProfile
from autoprec.backends.tensorrt.request import ENGINE, LAYERS, MODEL, BuildRequest, BuildResult, read_log

from ...helpers.tensorrt.fake_builder import FakeConfig, make
from ...helpers.tensorrt.precision_models import chain, conv_relu, node, quantized_matmul, serialised, value

WEAK, STRONG = "8.6.0", "11.4.0.106"


class Child:
    """Runs the child in this process, with a fake TensorRT."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self.timings = folder / "kept.timings"

    def run(
        self,
        model: bytes,
        version: str = WEAK,
        options: BuildOptions | None = None,
        *,
        precisions: dict[str, str] | None = None,
        timings: bool = False,
        quirk: str = "",
        limits: dict[str, float] | None = None,
    ) -> BuildResult:
        self._monkeypatch.setitem(sys.modules, "tensorrt", make(version, quirk))
        (self.folder / MODEL).write_bytes(model)
        cache = self.timings if timings else None
        request = BuildRequest(
            bindings="tensorrt",
            options=options or BuildOptions(),
            precisions=precisions or {},
            timing_cache=cache,
            limits=limits,
        )
        run(request.write(self.folder), Loggers())
        result = BuildResult.read(self.folder)
        assert result is not None
        return result

    def told(self) -> dict[str, Any]:
        """What the builder was told."""
        told: dict[str, Any] = json.loads((self.folder / ENGINE).read_bytes())
        return told


@pytest.fixture(name="child")
def _child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    return Child(tmp_path, monkeypatch)


def test_weak_asks_layer_by_layer(child: Child) -> None:
    child.run(chain(("r1", "fp16"), ("r2", "fp32"), ("r3", "")), precisions={"r1": "fp16", "r2": "fp32", "r3": ""})

    told = child.told()
    assert told["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert told["network_flags"] == 1
    assert [(layer["precision"], layer["outputs"]) for layer in told["layers"]] == [
        ("HALF", {"0": "HALF"}),
        ("FLOAT", {"0": "FLOAT"}),
        (None, {}),
    ]


@pytest.mark.parametrize(
    ("precisions", "flags"),
    [
        ({}, []),
        ({"r1": ""}, []),
        ({"r1": "fp32"}, ["OBEY_PRECISION_CONSTRAINTS"]),
        ({"r1": "fp16"}, ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
        ({"r1": "int8"}, ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
    ],
)
def test_weak_allows_fp16_only_where_something_may_go_below_fp32(
    child: Child, precisions: dict[str, str], flags: list[str]
) -> None:
    child.run(chain(("r1", "")), precisions=precisions)

    assert child.told()["flags"] == flags


def test_weak_allows_int8_where_the_model_quantises(child: Child) -> None:
    child.run(quantized_matmul(), precisions={"mm": "int8"})

    assert child.told()["flags"] == ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]


def test_what_weak_cannot_obey_is_preferred(child: Child) -> None:
    result = child.run(quantized_matmul(), precisions={"mm": "int8", "out": "fp16"}, quirk="not obeyed")

    assert result.constraints == "preferred"
    assert result.build_s is not None
    assert child.told()["flags"] == ["FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS"]


def test_what_weak_cannot_even_prefer_is_left_to_it(child: Child) -> None:
    result = child.run(
        chain(("r1", "fp16"), ("r2", "fp32")), precisions={"r1": "fp16", "r2": "fp32"}, quirk="not bound"
    )

    assert result.constraints == "none"
    assert child.told()["flags"] == ["FP16"]
    assert {layer["precision"] for layer in child.told()["layers"]} == {None}


def test_a_build_that_is_bound_says_so(child: Child) -> None:
    assert child.run(chain(("r1", "fp16")), precisions={"r1": "fp16"}).constraints == "obeyed"
    assert child.run(quantized_matmul(), STRONG).constraints == ""


def test_what_is_left_to_the_builder_has_ranges_and_no_constraints(child: Child) -> None:
    result = child.run(chain(("r1", ""), ("r2", "")), precisions={"r1": "", "r2": ""}, limits={"x": 1.5})

    told = child.told()
    assert result.build_s is not None
    assert told["flags"] == ["FP16", "INT8"]
    assert told["ranges"] == {"x": [-1.5, 1.5]}
    assert {layer["precision"] for layer in told["layers"]} == {None}


def test_pinned_units_are_asked_for_beside_what_is_left_to_the_builder(child: Child) -> None:
    child.run(chain(("r1", "fp32"), ("r2", "")), precisions={"r1": "fp32", "r2": ""}, limits={"x": 1.5})

    told = child.told()
    assert told["flags"] == ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]
    assert [layer["precision"] for layer in told["layers"]] == ["FLOAT", None]


def test_strong_is_told_by_the_graph_alone(child: Child) -> None:
    child.run(quantized_matmul(), STRONG, precisions={"mm": "int8"})

    told = child.told()
    assert told["flags"] == []
    assert told["network_flags"] == 1 << 1, "the fake's STRONGLY_TYPED is 1"
    assert {layer["precision"] for layer in told["layers"]} == {None}


@pytest.mark.parametrize("version", [WEAK, STRONG])
def test_options_reach_the_builder(child: Child, version: str) -> None:
    shapes = {"x": ShapeProfile((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
    child.run(conv_relu("N"), version, BuildOptions(shapes=shapes, workspace_mib=64, optimization_level=5))

    told = child.told()
    assert told["pools"] == {"WORKSPACE": 64 << 20}
    assert told["level"] == 5
    assert told["shapes"] == [{"x": [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]}]
    assert told["verbosity"] == "DETAILED"


def test_fixed_shapes_need_no_profile(child: Child) -> None:
    child.run(conv_relu())

    assert child.told()["shapes"] == []
    assert (child.told()["pools"], child.told()["level"]) == ({}, 3)


@pytest.mark.parametrize("version", [WEAK, STRONG])
def test_the_engine_is_inspected(child: Child, version: str) -> None:
    result = child.run(conv_relu(), version)

    layers = json.loads((child.folder / LAYERS).read_text())["Layers"]
    assert [layer["Name"] for layer in layers] == ["conv", "relu"]
    assert result.activation_bytes == 4096, "device_memory_size in 8.6, device_memory_size_v2 from 10 on"
    assert result.build_s is not None
    assert result.build_s >= 0


# --- kernel timings --------------------------------------------------------------------------------------


def entries(path: Path) -> set[str]:
    return set(read_timing_cache(path).decode().split(","))


def test_timings_are_kept_and_used(child: Child) -> None:
    cold = child.run(conv_relu(), timings=True)
    assert not cold.warm_timing_cache
    assert entries(child.timings) == {"conv", "relu"}

    warm = child.run(chain(("r1", "")), timings=True)
    assert warm.warm_timing_cache
    assert entries(child.timings) == {"conv", "relu", "r1"}


def test_timings_of_a_build_at_the_same_time_are_not_lost(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes its own after this one has read the file."""
    setter = FakeConfig.set_timing_cache

    def set_and_write(config: FakeConfig, cache: Any, ignore_mismatch: bool) -> bool:
        child.timings.write_bytes(hashlib.sha256(b"other").digest() + b"other")
        return setter(config, cache, ignore_mismatch)

    child.run(conv_relu(), timings=True)
    monkeypatch.setattr(FakeConfig, "set_timing_cache", set_and_write)
    child.run(chain(("r1", "")), timings=True)

    assert entries(child.timings) == {"conv", "relu", "r1", "other"}


@pytest.mark.parametrize("damage", [b"", b"short", b"\x00" * 100])
def test_damaged_timings_are_replaced(child: Child, damage: bytes) -> None:
    child.timings.write_bytes(damage)
    result = child.run(conv_relu(), timings=True)

    assert not result.warm_timing_cache
    assert result.build_s is not None
    assert entries(child.timings) == {"conv", "relu"}


def test_a_flipped_bit_in_the_timings_is_seen(child: Child) -> None:
    child.run(conv_relu(), timings=True)
    data = bytearray(child.timings.read_bytes())
    data[-1] ^= 1
    child.timings.write_bytes(data)

    assert read_timing_cache(child.timings) == b""


def test_timings_that_tensorrt_refuses_are_not_called_warm(child: Child) -> None:
    child.timings.write_bytes(hashlib.sha256(b"other GPU").digest() + b"other GPU")
    result = child.run(conv_relu(), timings=True)

    assert not result.warm_timing_cache
    assert {"conv", "relu"} <= entries(child.timings)


def test_without_a_timing_cache_nothing_is_written(child: Child) -> None:
    child.run(conv_relu())

    assert not child.timings.exists()


# --- what goes wrong -------------------------------------------------------------------------------------


def test_an_exception_of_the_bindings_is_written_down(child: Child) -> None:
    result = child.run(conv_relu(), quirk="no driver")

    assert result.exception == "TypeError: pybind11::init(): factory function returned nullptr"
    (line,) = read_log(child.folder)
    assert (line.severity, line.text) == (
        "warning",
        "CUDA initialization failure with error: 35. Please check your CUDA",
    )


def test_no_engine_is_no_build_time(child: Child) -> None:
    result = child.run(conv_relu(), quirk="no engine")

    assert result.build_s is None
    assert not (child.folder / ENGINE).exists()
    assert [line.text for line in read_log(child.folder) if line.is_error] == [
        "2: [resizePhysical::145] Error Code 2: OutOfMemory (no further)"
    ]


def test_the_parsers_words_are_kept_without_the_names_that_8_6_lacks(child: Child) -> None:
    model = serialised([node("Det", "det", ["x"], "y")], [value("x", [3, 3])], [value("y", [])])
    (error,) = child.run(model).parser_errors

    assert (error.code, error.description, error.node, error.operator) == ("UNSUPPORTED_NODE", "no importer", "", "")


def test_a_model_without_nodes_is_refused(child: Child) -> None:
    assert "must have nodes and outputs" in child.run(b"").refusal


def test_an_input_without_shapes_is_refused(child: Child) -> None:
    assert child.run(conv_relu("N")).refusal.startswith("the input 'x' has the dynamic shape (?, 3, 8, 8)")


# --- messages --------------------------------------------------------------------------------------------


def test_chatter_is_left_out_unless_wanted() -> None:
    for verbose, expected in ((False, ["info"]), (True, ["verbose", "info"])):
        file = io.StringIO()
        messages = Messages(file, verbose)
        messages.add("verbose", "tactic 1")
        messages.add("info", "done")

        assert [json.loads(line)[0] for line in file.getvalue().splitlines()] == expected


def test_the_layers_and_the_largest_activation_memory_are_picked_out() -> None:
    messages = Messages(io.StringIO(), True)
    for text in (
        "Total Activation Memory: 64 bytes",
        "Layers:\nName: first",
        "Layers:\nName: second",
        "Total Activation Memory: 512 bytes",
        "Total Activation Memory: 256 bytes",
    ):
        messages.add("verbose", text)

    assert messages.layers == "Layers:\nName: first"
    assert messages.activation_bytes == 512


def test_a_full_disk_does_not_raise_into_tensorrt() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    Messages(Full(), True).add("error", "words")
