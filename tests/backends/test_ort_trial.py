"""A model that crashes ONNX Runtime, or never comes back, costs a refusal and not this process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprec.backends.ort import OrtBackend
from autoprec.backends.ort_request import MODEL, TrialRequest
from autoprec.backends.ort_trial import ModelTrial
from autoprec.errors import BackendError

CHILD = """
import os, pathlib, signal, sys, time
for line in sys.stdin:
    folder = pathlib.Path(line.rstrip()).parent
    order = (folder / "model.onnx").read_text()
    with (folder.parent / "orders").open("a") as log:
        log.write(order + " ")
    if order.startswith("run"):
        (folder / "running").touch()
    if "kill" in order:
        os.kill(os.getpid(), signal.SIGKILL if "memory" in order else signal.SIGABRT)
    if "sleep" in order:
        time.sleep(300)
    if "exit" in order:
        sys.exit(3)
    print("done", flush=True)
"""
REQUEST = TrialRequest(1, exact=False, shapes={})


@pytest.fixture(name="trial")
def _trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelTrial:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return ModelTrial((sys.executable, "-S", "-c", CHILD))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (b"load kill", r"crashed \(SIGABRT\) when it was to load the model$"),
        (b"run kill", r"crashed \(SIGABRT\) when it was to run the model$"),
        (b"run memory kill", r"SIGKILL\) when it was to run the model; there was most likely too little memory"),
    ],
)
def test_a_crash_is_a_refusal_that_says_what_happened(trial: ModelTrial, order: bytes, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        trial.survives(order, REQUEST)
    trial.survives(b"fine", REQUEST)


def test_a_model_that_hangs_is_refused(trial: ModelTrial) -> None:
    hasty = ModelTrial((sys.executable, "-S", "-c", CHILD), time_limit_s=0.3)

    with pytest.raises(BackendError, match=r"did not (load|run) the model within 0.3 s and was stopped"):
        hasty.survives(b"run sleep", REQUEST)


def test_what_was_tried_out_is_not_tried_again_unless_it_crashed(trial: ModelTrial, tmp_path: Path) -> None:
    for order in (b"a", b"a", b"b", b"a"):
        trial.survives(order, REQUEST)
    trial.survives(b"a", TrialRequest(1, exact=True, shapes={}))
    for _ in range(2):
        with pytest.raises(BackendError):
            trial.survives(b"kill", REQUEST)

    assert (tmp_path / "orders").read_text().split() == ["a", "b", "a", "kill", "kill"]


def test_a_process_that_only_ended_says_nothing_about_the_model(trial: ModelTrial) -> None:
    trial.survives(b"exit", REQUEST)


def half_model(*, crashes: bool) -> bytes:
    """Cast to FP16, Transpose, MatMul: ONNX Runtime 1.32 crashes on it, but not with a Relu after the Cast."""
    relu = [] if crashes else [helper.make_node("Relu", ["half"], ["relu"])]
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        *relu,
        helper.make_node("Transpose", ["half" if crashes else "relu"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["turned", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", 8]) for name in "xy"]
    weights = [numpy_helper.from_array(np.ones((8, 8), np.float16), "w")]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_the_real_child_survives_a_good_model_and_not_one_that_crashes_this_version() -> None:
    """Where a later version of ONNX Runtime does not crash, it must load the model here too."""
    backend = OrtBackend(threads=1, shapes={"x": (2, 3, 8)})
    with backend.build(half_model(crashes=False)):
        pass
    try:
        backend.build(half_model(crashes=True))
    except BackendError as error:
        assert str(error) == "ONNX Runtime crashed (SIGSEGV) when it was to load the model"  # noqa: PT017


def test_the_request_says_what_it_was_told(tmp_path: Path) -> None:
    request = TrialRequest(3, exact=True, shapes={"x": (2, 3)})

    assert TrialRequest.read(request.write(tmp_path)) == request
    assert MODEL == "model.onnx"
