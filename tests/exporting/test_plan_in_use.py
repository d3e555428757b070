"""A plan runs: from the directory of a search that has just ended, and as an engine of TensorRT."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import autoprec
from autoprec.backends.tensorrt import opening
from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.errors import BackendError, ModelError, RunDirectoryError, UsageError
from autoprec.proof.delivered import Delivered
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.tensorrt.fake_cuda import FakeCuda
from ..helpers.tensorrt.fake_tensorrt import FakeTensorRt, doubling, engine_file


@pytest.fixture(name="result", scope="module")
def _result(model: Path, tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    """A search that has ended, of which nothing was saved."""
    return autoprec.search(
        model,
        calib=tiny_data(model, 24),
        metric="sqnr",
        max_drop=1.0,
        backend=FakeBackend(),
        trials=3,
        out=tmp_path_factory.mktemp("ended") / "run",
    )


def test_a_run_can_be_loaded_as_soon_as_its_search_has_ended(model: Path, result: autoprec.SearchResult) -> None:
    loaded, feed = autoprec.load(result.directory), {"x": tiny_data(model, 4)["x"]}

    assert loaded.plan.precisions() == result.plan.precisions()
    assert loaded.summary["chosen"] == result.summary["chosen"]
    np.testing.assert_array_equal(
        loaded.session(threads=1).run(None, feed)[0], result.session(threads=1).run(None, feed)[0]
    )


def test_what_is_in_the_way_of_the_answer_does_not_lose_it(model: Path, tmp_path: Path) -> None:
    class InTheWay(FakeBackend):
        def for_run(self, shapes: object, folder: Path) -> FakeBackend:
            (folder / "plan.json").write_text("mine")
            return self

    result = autoprec.search(
        model, calib=tiny_data(model, 24), metric="sqnr", max_drop=1.0, backend=InTheWay(), trials=2, out=tmp_path / "r"
    )

    assert (tmp_path / "r" / "plan.json").read_text() == "mine"
    with pytest.raises(RunDirectoryError, match=r"plan\.json"):
        result.save()
    assert result.save(tmp_path / "elsewhere") == tmp_path / "elsewhere"


@pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="pip install tensorrt-rtx")
def test_an_engine_is_built_without_a_gpu_and_to_open_it_says_what_is_missing(
    result: autoprec.SearchResult, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(result.directory, tmp_path / "run")
    with pytest.raises(ModelError, match="give --model"):
        autoprec.load(tmp_path / "run").engine("tensorrt-rtx", targets=("sm89",))
    delivered = autoprec.load(tmp_path / "run", model=model).engine("tensorrt-rtx", targets=("sm89",), batch=2)

    assert delivered.engine_path is not None
    assert delivered.engine_path.stat().st_size > 10_000
    assert delivered.verification is not None
    if opening_works():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match=r"(?i)gpu|cuda"):
        delivered.open()


def opening_works() -> bool:
    try:
        opening.load_cuda().device()
    except BackendError:
        return False
    return True


def test_an_engine_that_was_built_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    runtime = FakeTensorRt(doubling(), cuda, "tensorrt")
    monkeypatch.setattr(opening, "find_bindings", lambda name: Bindings(runtime, name, (10, 0, 0), "strong"))
    monkeypatch.setattr(opening, "load_cuda", lambda: cuda)
    path = engine_file(tmp_path)
    path.with_suffix(".json").write_text('{"runtime": "tensorrt"}')
    delivered = Delivered(model=tmp_path / "model.onnx", counts={}, model_bytes=1, original_bytes=1, engine_path=path)

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with delivered.open() as engine:
        (doubled,) = engine.run({"x": x}).values()
    np.testing.assert_array_equal(doubled, 2 * x)


def test_without_an_engine_nothing_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name a backend that builds one"):
        Delivered(model=tmp_path / "model.onnx", counts={}, model_bytes=1, original_bytes=1).open()
