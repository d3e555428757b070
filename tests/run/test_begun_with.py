"""A run keeps the scheme that it was begun with, whatever this machine would choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU_7BIT
from autoprec.precision import Precision
from autoprec.run.begun_with import as_begun, written_as
from autoprec.run.settings import Settings
from autoprec.run.study_description import read_study_description
from autoprec.run.task import prepare_task
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.networks import encoder, write

FP32, INT8, DYNAMIC = Precision.FP32, Precision.INT8, Precision.INT8_DYNAMIC


@pytest.mark.parametrize(("begun_with", "written_by"), [("ort-cpu-7bit", ORT_CPU_7BIT), ("tensorrt", None)])
def test_only_a_variant_of_the_own_scheme_is_taken_over(
    model: Path, begun_with: str, written_by: object | None
) -> None:
    task = prepare_task(Settings(model=model, calib=tiny_data(model, 30)), FakeBackend())
    own = task.subject.lowerer.scheme

    assert written_as(task, begun_with).subject.lowerer.scheme == (written_by or own)
    assert written_as(task, own.name) is task


EARLIER = Path(__file__).parents[1] / "compatibility" / "data" / "runs" / "finished" / "study.json"


@pytest.mark.parametrize(("space", "left"), [(None, (FP32, INT8)), ("cpu-dynamic", (FP32, INT8, DYNAMIC))])
def test_a_run_of_an_earlier_version_goes_on_with_what_its_default_space_offered(
    space: str | None, left: tuple[Precision, ...], tmp_path: Path
) -> None:
    """What the user names now counts all the same."""
    path = write(encoder(4), tmp_path)
    samples = np.arange(30 * 6 * 32, dtype=np.float32).reshape(30, 6, 32)
    settings = Settings(model=path, calib={"x": samples}, space=space)
    task = prepare_task(settings, OrtBackend(1))

    assert set(task.subject.choices.values()) == {(FP32, INT8, DYNAMIC)}
    assert set(as_begun(task, read_study_description(EARLIER)).subject.choices.values()) == {left}
