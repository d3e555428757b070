"""A backend of neither runtime goes the whole way, known to autoprec by nothing but the Protocol."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import autoprec
from autoprec.backends.make import BACKENDS
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import SCHEMES
from autoprec.errors import EXIT_WORSE, RunDirectoryError, UsageError
from autoprec.front.run_front import load_front
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import gate, record_baseline, update_baseline
from autoprec.gate.verdict import Status
from autoprec.plan import load_plan
from autoprec.testing import BackendContract, FakeBackend, tiny_data, tiny_model

from ..helpers import third_backend
from ..helpers.third_backend import NPU_SCHEME, NpuBackend

TRIALS = 8
LEFT_TO_THE_WORKER = 4
PACKAGE = Path(autoprec.__file__).parent
JOIN = """
import sys
sys.path.insert(0, sys.argv[2])
from autoprec.api import work
from third_backend import NpuBackend
print(work(sys.argv[1], backend=NpuBackend(tuple(sys.argv[3:]))).measured)
"""


@dataclass(frozen=True)
class Run:
    """A finished run of the third backend, and what a worker measured for it."""

    targets: tuple[str, ...]
    folder: Path
    result: autoprec.SearchResult
    joined: int

    @property
    def root(self) -> Path:
        return self.folder / "run"

    @property
    def model(self) -> Path:
        return self.folder / "tiny.onnx"

    @property
    def baseline(self) -> Path:
        return self.folder / "baseline.json"

    @property
    def backend(self) -> NpuBackend:
        return NpuBackend(self.targets)


class Helped:
    """Follows a search, and leaves its last trials to a worker in a process of its own."""

    def __init__(self, run: Path, targets: tuple[str, ...]) -> None:
        self.run, self.targets, self.measured, self.joined = run, targets, 0, 0

    def stage(self, name: str, detail: str) -> None:
        pass

    def advance(self, share: float) -> None:
        pass

    def trial(self, trial: object) -> None:
        self.measured += 1
        if self.measured == TRIALS - LEFT_TO_THE_WORKER:
            helpers = str(Path(third_backend.__file__).parent)
            command = [sys.executable, "-c", JOIN, str(self.run), helpers, *self.targets]
            self.joined = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout)


@pytest.fixture(name="run", scope="module", params=[(), ("npu3", "npu4")], ids=["here", "ahead"])
def _run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("npu")
    model = tiny_model(folder)
    np.savez(folder / "eval.npz", **tiny_data(model, 200, seed=1))
    np.savez(folder / "calib.npz", **tiny_data(model, 32, seed=2))
    helped = Helped(folder / "run", request.param)
    result = autoprec.search(
        model,
        calib=folder / "calib.npz",
        eval=folder / "eval.npz",
        metric="cosine",
        max_drop=0.2,
        recipe="minmax",
        trials=TRIALS,
        sampler="random",
        backend=NpuBackend(request.param),
        out=folder / "run",
        progress=helped,
    )
    record_baseline(result.save(), folder / "baseline.json")
    return Run(request.param, folder, result, helped.joined)


class TestContract(BackendContract):
    """What every backend must hold to."""

    def backend(self) -> Backend:
        return NpuBackend()


def test_its_scheme_is_none_of_autoprecs() -> None:
    assert all(replace(NPU_SCHEME, name=name) != scheme for name, scheme in SCHEMES.items())


def test_the_plan_is_quantised_in_the_backends_own_scheme(run: Run) -> None:
    plan = load_plan(run.root / "plan.json")
    lowered = onnx.load(run.root / "model.onnx")
    quantized = {node.name for node in lowered.graph.node if node.op_type == "QuantizeLinear"}
    zeros = {i.name: i.data_type for i in lowered.graph.initializer if not i.dims and i.data_type != 1}

    assert (plan.backend, plan.scheme) == ("npu", "npu-v1")
    assert run.result.feasible
    assert quantized
    assert set(zeros.values()) <= {onnx.TensorProto.INT8, onnx.TensorProto.INT32}, "symmetric, as its scheme wants"


def test_the_run_directory_names_scheme_targets_and_sizes(run: Run) -> None:
    study, search = (json.loads((run.root / name).read_text()) for name in ("study.json", "search.json"))

    assert study["scheme"] == "npu-v1"
    assert study["asked"]["targets"] == search["targets"] == list(run.targets)
    assert {trial.measured.bytes % 7 for trial in run.result.trials} == {1}, "the engine's own size, not the model's"


def test_a_worker_joins_the_search(run: Run) -> None:
    assert run.joined >= 1
    assert len(run.result.trials) == TRIALS


def test_the_front_is_listed_and_built(run: Run, tmp_path: Path) -> None:
    front = load_front(run.root, backend=run.backend)
    answer = front.answer
    assert answer is not None
    built = front.build(answer, tmp_path / "built")

    assert front.front()
    assert front.front("size")
    assert all(point.size % 7 == 1 for point in front.points)
    assert load_plan(built.plan).scheme == "npu-v1"
    assert built.model.read_bytes() == (run.root / "model.onnx").read_bytes()


def test_the_front_of_an_unknown_scheme_needs_the_backend(run: Run) -> None:
    with pytest.raises(RunDirectoryError, match="there is no scheme 'npu-v1'"):
        load_front(run.root)


def test_the_baseline_also_holds_the_scores_of_exact_arithmetic_where_engines_computed_others(run: Run) -> None:
    evidence = load_baseline(run.baseline).evidence

    assert (evidence.samples.exact is not None) == run.backend.runs_here
    assert (evidence.machine["scheme"], evidence.machine["hardware"]) == ("npu-v1", "npu3")


def test_the_gate_passes_the_same_model(run: Run) -> None:
    report = gate(run.model, run.baseline, backend=run.backend)

    assert {check.name: check.status for check in report.checks} == {
        "accuracy": Status.FINE,
        "precision": Status.FINE,
        "latency": Status.FINE,
        "size": Status.FINE,
        "ranges": Status.FINE,
    }


def test_the_gate_takes_the_run_directory_too(run: Run) -> None:
    assert gate(run.root, run.baseline, backend=run.backend).exit_code == 0


def test_the_gate_sees_a_compiler_whose_quantised_kernels_are_slower(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = third_backend.steps

    def slower(model: bytes) -> list[third_backend.Step]:
        return [replace(step, milliseconds=(3 if step.on_codes else 1) * step.milliseconds) for step in before(model)]

    monkeypatch.setattr(third_backend, "steps", slower)
    monkeypatch.setattr(NpuBackend, "describe", lambda self: {"backend": "npu", "compiler": "3.2", "hardware": "npu3"})
    report = gate(run.model, run.baseline, backend=run.backend)

    assert report.exit_code == EXIT_WORSE
    assert [check.name for check in report.checks if check.status is Status.WORSE] == ["latency"]
    assert "compiler: 3.1 -> 3.2" in report.changes


def test_the_gate_needs_the_backend(run: Run) -> None:
    with pytest.raises(UsageError, match="got 'npu-v1'; if a backend of your own brings it, pass that backend"):
        gate(run.model, run.baseline)


def test_another_backend_cannot_run_its_plans(run: Run) -> None:
    with pytest.raises(UsageError, match="got 'npu-v1'"):
        gate(run.model, run.baseline, backend=FakeBackend())


def test_its_baseline_is_updated(run: Run) -> None:
    baseline = run.folder / "updated.json"  # beside the data, which it names as seen from its own folder
    baseline.write_bytes(run.baseline.read_bytes())
    update_baseline(run.model, baseline, backend=run.backend)

    assert gate(run.model, baseline, backend=run.backend).exit_code == 0


NAMES = {*BACKENDS, *SCHEMES}
OUTSIDE = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "backends")
"""Backends and schemes may be told apart by their names only below `backends/`, where the module of schemes lies."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in OUTSIDE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_no_module_outside_compares_with_the_name_of_a_backend_or_scheme() -> None:
    found = []
    for path in OUTSIDE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                texts = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
                found += [f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}" for name in texts & NAMES]

    assert found == []


def test_no_module_outside_asks_how_such_a_name_begins() -> None:
    asked = {
        where: call.args[0].value
        for where, call in calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("startswith", "endswith", "removeprefix")
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    parts = {name[:length] for name in NAMES for length in range(3, len(name) + 1)}

    assert {where: text for where, text in asked.items() if text in parts} == {}


def test_no_module_outside_looks_for_attributes_of_a_backend_or_an_engine() -> None:
    asked = [
        where
        for where, call in calls()
        if isinstance(call.func, ast.Name)
        and call.func.id in ("getattr", "hasattr")
        and any(word in ast.unparse(call.args[0]) for word in ("backend", "engine", "runtime", "timed"))
    ]
    assert asked == []
