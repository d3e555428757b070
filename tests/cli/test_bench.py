"""autoprec bench: its words and its JSON on a GPU that is made up, and what it says without one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from autoprec.backends.tensorrt import opening
from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.cli import main
from autoprec.errors import EXIT_OK, EXIT_USAGE, BackendError

from ..helpers.tensorrt.fake_cuda import FakeCuda
from ..helpers.tensorrt.fake_tensorrt import FakeTensorRt, Spec, Tensor, doubling, engine_file

FAST = ("--duration", "0", "--warmup", "0")
Machine = Callable[..., FakeCuda]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Set up a GPU; each keyword is an engine NAME.engine in the current folder, and what it does."""
    monkeypatch.chdir(tmp_path)

    def make(cuda: FakeCuda | None = None, **specs: Spec) -> FakeCuda:
        gpu = FakeCuda() if cuda is None else cuda
        for name, spec in specs.items():
            engine_file(tmp_path, f"{name}.engine")
            (tmp_path / f"{name}.json").write_text(json.dumps({"runtime": name}))
            monkeypatch.setitem(modules, name, FakeTensorRt(spec, gpu))
        monkeypatch.setattr(opening, "load_cuda", lambda: gpu)
        return gpu

    modules: dict[str, FakeTensorRt] = {}
    monkeypatch.setattr(opening, "find_bindings", lambda name: Bindings(modules[name], name, (8, 6), "weak"))
    return make


def bench(*words: str) -> Result:
    return CliRunner().invoke(main, ["bench", *words], catch_exceptions=False)


def refused(result: Result, words: str) -> None:
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.search(words, result.stderr), result.stderr


def record_of(*words: str) -> dict[str, Any]:
    result = bench(*words, "--json")
    assert result.exit_code == EXIT_OK, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_one_engine_is_reported(machine: Machine) -> None:
    gpu = machine(a=doubling(times_ms=(2.0,)))
    found = record_of("a.engine", *FAST, "--iterations", "12")
    (engine,) = found["engines"]

    assert found["clock"] == "measured"
    assert found["device"]["name"] == "Fake GPU"
    assert found["comparison"] == []
    assert engine["engine"] == "a.engine"
    assert engine["runtime"] == "TensorRT 8.6.0"
    assert engine["shapes"] == {"x": [4, 3]}
    assert engine["gpu"]["median_ms"] == engine["gpu"]["p99_ms"] == pytest.approx(2.0)
    assert engine["gpu"]["variation"] == pytest.approx(0.0, abs=1e-9)
    assert (engine["runs"], engine["batch"]) == (12, 4)
    assert engine["samples_per_s"] == pytest.approx(4 * engine["runs_per_s"])
    assert (engine["engine_bytes"], engine["activation_bytes"]) == (9, 3 << 20)
    assert engine["cuda_graph"] is True
    assert engine["to_device"] is None
    assert "layers" not in engine
    assert gpu.leaks == {}


def test_the_table_is_for_people(machine: Machine) -> None:
    machine(a=doubling(times_ms=(2.0,)))
    out = bench("a.engine", *FAST).stdout

    assert out.startswith("Fake GPU (compute capability 9.0), driver for CUDA 13.0, TensorRT 8.6.0; random inputs\n")
    assert re.search(r"^engine +batch +GPU ms +p90 +p95 +p99 +varies", out, re.MULTILINE)
    assert re.search(r"^a\.engine +4 +2\.0000 +2\.0000 +2\.0000 +2\.0000 +0\.0%", out, re.MULTILINE)
    assert "latency ms" not in out
    assert "compared" not in out
    assert "note" not in out


def test_several_engines_are_compared_with_the_first(machine: Machine) -> None:
    gpu = machine(a=doubling(times_ms=(2.0,)), b=doubling(times_ms=(1.0,)))
    found = record_of("a.engine", "b.engine", *FAST, "--rounds", "6")
    (row,) = found["comparison"]

    assert (row["engine"], row["baseline"]) == ("b.engine", "a.engine")
    assert row["ratio"] == pytest.approx(0.5)
    assert row["low"] <= row["ratio"] <= row["high"]
    assert 5 <= row["rounds"] <= 6
    assert gpu.leaks == {}
    out = bench("a.engine", "b.engine", *FAST).stdout
    assert re.search(r"compared with a\.engine in \d+ interleaved rounds:", out)
    assert "b.engine: 0.500 of its time (95 % interval 0.500 to 0.500): faster" in out
    assert (
        "a.engine: 2.000 of its time (95 % interval 2.000 to 2.000): slower"
        in bench("b.engine", "a.engine", *FAST).stdout
    )


def test_an_engine_is_compared_with_itself(machine: Machine) -> None:
    machine(a=doubling(times_ms=(2.0,)))

    assert "a.engine: 1.000 of its time" in bench("a.engine", "a.engine", *FAST).stdout
    assert "no difference shown" in bench("a.engine", "a.engine", *FAST).stdout


def test_batch_and_shapes_are_passed_on(machine: Machine) -> None:
    machine(a=doubling())

    assert record_of("a.engine", *FAST, "--batch", "8")["engines"][0]["shapes"] == {"x": [8, 3]}
    assert record_of("a.engine", *FAST, "--shapes", "x:2x3")["engines"][0]["batch"] == 2
    refused(bench("a.engine", *FAST, "--batch", "9"), "takes 1 to 8 on axis 0, got 9")
    refused(bench("a.engine", *FAST, "--shapes", "image:2x3"), "there is no input 'image' to shape")


def test_names_with_colons_are_inputs_too(machine: Machine) -> None:
    spec = doubling()
    spec.inputs = {"x:0": spec.inputs["x"]}
    spec.shape_of = lambda shapes: {"y": shapes["x:0"]}
    spec.compute = lambda arrays: {"y": arrays["x:0"]}
    machine(a=spec)

    assert record_of("a.engine", *FAST, "--shapes", "x:0:2x3")["engines"][0]["shapes"] == {"x:0": [2, 3]}


@pytest.mark.parametrize("word", ["x", "x:", ":2x3", "x:2xthree", "x:0x3", "x:-1x3"])
def test_shapes_that_are_none_are_refused(machine: Machine, word: str) -> None:
    machine(a=doubling())

    refused(bench("a.engine", "--shapes", word), rf"must be like INPUT:1x3x224x224, got '{word}'")


def test_transfers_are_shown_when_asked_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    machine(FakeCuda(copy_ms=0.5), a=doubling(times_ms=(2.0,)))
    (engine,) = record_of("a.engine", *FAST, "--include-transfers")["engines"]

    assert engine["to_device"]["median_ms"] == pytest.approx(0.5)
    assert engine["latency"]["median_ms"] == pytest.approx(3.0)
    out = bench("a.engine", *FAST, "--include-transfers").stdout
    assert re.search(r"in ms +out ms +latency ms", out)
    assert re.search(r"^a\.engine.* 0\.5000 +0\.5000 +3\.0000$", out, re.MULTILINE)


def test_findings_and_warnings_are_notes(machine: Machine) -> None:
    machine(a=doubling(times_ms=(1.0, 2.0), refuses_capture=True, warnings=("built for another model of GPU",)))
    out = bench("a.engine", *FAST).stdout

    assert "note: a.engine: unstable: the GPU's time varies by 33.3%" in out
    assert "note: a.engine: built for another model of GPU" in out
    assert "note: a.engine: timed without a CUDA graph" in out
    (engine,) = record_of("a.engine", *FAST)["engines"]
    assert len(engine["diagnosis"]) == 1
    assert len(engine["warnings"]) == 2
    assert engine["cuda_graph"] is False


def test_a_cuda_graph_can_be_left_out(machine: Machine) -> None:
    gpu = machine(a=doubling())

    assert record_of("a.engine", *FAST, "--no-cuda-graph")["engines"][0]["cuda_graph"] is False
    assert gpu.launches == 0


def test_layers_are_shown_slowest_first(machine: Machine) -> None:
    machine(a=doubling(layers=((("conv1", 0.25), ("conv2", 0.75)),)))
    out = bench("a.engine", *FAST, "--profile").stdout

    assert "a.engine: the slowest 2 of 2 layers, 1.0000 ms in all" in out
    assert re.search(r"0\.7500 +75\.0% +conv2\n0\.2500 +25\.0% +conv1", out)
    (engine,) = record_of("a.engine", *FAST, "--profile")["engines"]
    assert engine["layers"] == [{"name": "conv1", "median_ms": 0.25}, {"name": "conv2", "median_ms": 0.75}]


def test_engines_of_other_inputs_are_not_compared(machine: Machine) -> None:
    other = doubling()
    other.inputs = {"z": Tensor(shapes=((1, 3),) * 3)}
    gpu = machine(a=doubling(), b=other)

    refused(bench("a.engine", "b.engine", *FAST), "same inputs: a.engine has x, b.engine has z")
    assert gpu.leaks == {}


def test_an_engine_that_fails_is_named_and_all_is_freed(machine: Machine) -> None:
    gpu = machine(a=doubling(), b=doubling(fails="myelin failed"))

    refused(bench("a.engine", "b.engine", *FAST), "autoprec: b.engine: TensorRT could not run the engine: myelin")
    assert gpu.leaks == {}


def test_no_gpu_is_one_line_that_says_what_to_do(machine: Machine) -> None:
    lacking = CudaError(
        "CUDA could not find a GPU: cudaErrorNoDevice (no device); check nvidia-smi", "cudaErrorNoDevice"
    )
    machine(FakeCuda(refuse={"device": lacking}), a=doubling())

    refused(bench("a.engine"), "^autoprec: CUDA could not find a GPU: .*; check nvidia-smi")


def test_no_engine_is_one_line_that_says_what_to_do(machine: Machine) -> None:
    machine()

    refused(bench("nothing.engine"), "^autoprec: there is no engine nothing.engine; build one with autoprec build")


def test_no_runtime_is_one_line_that_says_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(a=doubling())

    def missing(name: str) -> Bindings:
        raise BackendError(f"{name} is not installed; run: pip install 'autoprec[{name}]'")

    monkeypatch.setattr(opening, "find_bindings", missing)
    refused(bench("a.engine"), r"^autoprec: a is not installed; run: pip install 'autoprec\[a\]'")


def test_no_cuda_python_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    module = FakeTensorRt(doubling(), FakeCuda())
    monkeypatch.setattr(opening, "find_bindings", lambda name: Bindings(module, name, (8, 6), "weak"))

    refused(bench(str(engine_file(tmp_path))), "^autoprec: running engines needs NVIDIA's cuda-bindings.*pip install")


def test_no_engines_at_all_is_a_usage_error() -> None:
    result = bench()

    assert result.exit_code == EXIT_USAGE
    assert "Missing argument 'ENGINE...'" in result.stderr
