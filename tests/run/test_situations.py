"""Situations that cannot be are refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autoprec
from autoprec.data.dataset import Dataset
from autoprec.errors import UsageError
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.run.settings import Settings
from autoprec.run.situations import refuse_situations
from autoprec.testing import FakeBackend, tiny_data

CACHED = Interface((TensorSpec("keys", np.dtype(np.float32), ("n", "past", 4)),), ())


class BuildsEngines(FakeBackend):
    keeps_engines = True


def test_an_empty_cache_is_refused_where_engines_are_built() -> None:
    data = Dataset.from_arrays({"keys": np.ones((2, 3, 4), np.float32)})
    settings = Settings(model="", situations=("decode:past=5", "prefill:past=0"))

    refuse_situations(settings, CACHED, data, FakeBackend())
    with pytest.raises(UsageError, match=r"'keys' would be empty in the situation 'prefill'.* such as past=1"):
        refuse_situations(settings, CACHED, data, BuildsEngines())


def test_a_wrong_axis_of_a_situation_that_does_not_count_is_told_at_once(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the situation 'long' gives a length to 'length'"):
        autoprec.search(
            model,
            calib=tiny_data(model, 24),
            metric="sqnr",
            backend=FakeBackend(),
            situations=["one:batch=1", "long:length=3"],
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
