"""An engine file finds the runtime that wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.tensorrt import opening
from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.opening import open_engine, recorded_runtime
from autoprec.errors import BackendError

from ...helpers.tensorrt.fake_cuda import FakeCuda
from ...helpers.tensorrt.fake_tensorrt import FakeTensorRt, doubling, engine_file

Install = Callable[..., list[str]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Say which runtimes are installed; returns the names that are asked for."""

    def installed(**modules: FakeTensorRt) -> list[str]:
        asked: list[str] = []

        def find(name: str) -> Bindings:
            asked.append(name)
            if name not in modules:
                raise BackendError(f"{name} is not installed")
            return Bindings(modules[name], name, (8, 6, 0), "weak")

        monkeypatch.setattr(opening, "find_bindings", find)
        return asked

    return installed


def made(name: str, cuda: FakeCuda, **spec: Any) -> FakeTensorRt:
    return FakeTensorRt(doubling(**spec), cuda, name)


@pytest.mark.parametrize("beside", ["model.json", "model.engine.json"])
def test_the_record_beside_the_engine_decides(tmp_path: Path, install: Install, beside: str) -> None:
    cuda = FakeCuda()
    asked = install(tensorrt=made("tensorrt", cuda), tensorrt_rtx=made("tensorrt_rtx", cuda))
    (tmp_path / beside).write_text(json.dumps({"runtime": "tensorrt_rtx"}))

    with open_engine(engine_file(tmp_path), cuda=cuda) as engine:
        assert engine.runtime.startswith("TensorRT-RTX")
    assert asked == ["tensorrt_rtx"]


@pytest.mark.parametrize("record", [None, "no JSON {", "[]", '{"runtime": 3}', '{"other": "x"}'])
def test_without_a_record_what_is_installed_is_tried(tmp_path: Path, install: Install, record: str | None) -> None:
    cuda = FakeCuda()
    refusing = made("tensorrt", cuda, errors=("Magic tag does not match",))
    install(tensorrt=refusing, tensorrt_rtx=made("tensorrt_rtx", cuda))
    if record is not None:
        (tmp_path / "model.json").write_text(record)

    with open_engine(engine_file(tmp_path), cuda=cuda) as engine:
        assert engine.runtime.startswith("TensorRT-RTX")


def test_a_recorded_runtime_that_refuses_is_the_only_one_asked(tmp_path: Path, install: Install) -> None:
    cuda = FakeCuda()
    refusing = made("tensorrt", cuda, errors=("Version tag does not match",))
    install(tensorrt=refusing, tensorrt_rtx=made("tensorrt_rtx", cuda))
    (tmp_path / "model.json").write_text('{"runtime": "tensorrt"}')
    with pytest.raises(BackendError, match=r"another version of TensorRT 8\.6\.0"):
        open_engine(engine_file(tmp_path), cuda=cuda)


def test_all_refusals_are_told(tmp_path: Path, install: Install) -> None:
    cuda = FakeCuda()
    refusing = {name: made(name, cuda, errors=("Magic tag",)) for name in ("tensorrt", "tensorrt_rtx")}
    install(**refusing)
    with pytest.raises(BackendError, match=r"by TensorRT 8.6.0 on .*; or else .* by TensorRT-RTX 8.6.0 on"):
        open_engine(engine_file(tmp_path), cuda=cuda)


def test_what_is_missing_is_told_in_order(tmp_path: Path, install: Install) -> None:
    """The file, the runtime, the GPU: each hides what comes behind it."""
    cuda = FakeCuda(refuse={"device": CudaError("no GPU", "cudaErrorNoDevice")})
    install()
    with pytest.raises(BackendError, match=r"there is no engine .*model.engine; build one with autoprec build"):
        open_engine(tmp_path / "model.engine", cuda=cuda)
    path = engine_file(tmp_path)
    with pytest.raises(BackendError, match="tensorrt is not installed; or tensorrt_rtx is not installed"):
        open_engine(path, cuda=cuda)
    install(tensorrt=made("tensorrt", cuda))
    with pytest.raises(BackendError, match=r"^no GPU$"):
        open_engine(path, cuda=cuda)


def test_a_runtime_that_nobody_knows_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"runtime": "openvino"}')
    with pytest.raises(BackendError, match="openvino"):
        open_engine(engine_file(tmp_path), cuda=FakeCuda())


def test_a_folder_is_no_engine(tmp_path: Path) -> None:
    assert recorded_runtime(tmp_path) is None
    with pytest.raises(BackendError, match="there is no engine"):
        open_engine(tmp_path)
