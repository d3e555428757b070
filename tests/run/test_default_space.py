"""Which search space a model gets where the user names none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend
from autoprec.precision import Precision
from autoprec.run.settings import Settings
from autoprec.run.task import Subject, prepare_subject
from autoprec.testing import FakeBackend

from ..helpers.networks import conv_relu, encoder, write


def subject(model: onnx.ModelProto, folder: Path, backend: Backend | None = None, space: str | None = None) -> Subject:
    return prepare_subject(Settings(model=write(model, folder), space=space), backend or OrtBackend(1))


def test_a_model_of_matrix_products_may_quantise_activations_at_run_time(tmp_path: Path) -> None:
    found = subject(encoder(4), tmp_path)

    assert found.space.name == "cpu-dynamic"
    assert set(found.choices.values()) == {(Precision.FP32, Precision.INT8, Precision.INT8_DYNAMIC)}


@pytest.mark.parametrize("model", [conv_relu(), encoder(3)], ids=["convolutions", "few products"])
def test_any_other_model_has_the_space_of_earlier_versions(model: onnx.ModelProto, tmp_path: Path) -> None:
    assert subject(model, tmp_path).space.name == "cpu"


def test_a_space_that_the_user_names_is_taken_as_it_is(tmp_path: Path) -> None:
    assert subject(encoder(4), tmp_path, space="cpu").space.name == "cpu"


def test_a_runtime_that_cannot_time_it_keeps_its_space(tmp_path: Path) -> None:
    assert subject(encoder(4), tmp_path, FakeBackend()).space.name == "cpu"
