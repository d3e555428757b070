"""One engine of the fake TensorRT on the fake GPU, opened from a file, and samples for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autoprec.backends.tensorrt.engine import TensorRtEngine

from ...helpers.tensorrt.fake_cuda import FakeCuda
from ...helpers.tensorrt.fake_tensorrt import (
    FakeTensorRt,
    Spec,
    engine_file,
)


def rows(count: int, start: float = 1.0) -> np.ndarray:
    return (start + np.arange(count * 3, dtype=np.float32)).reshape(count, 3)


class Bench:
    """An engine, the CUDA under it and the module that made it."""

    def __init__(self, folder: Path, spec: Spec, cuda: FakeCuda | None = None, **options: Any) -> None:
        self.cuda = FakeCuda() if cuda is None else cuda
        self.module = FakeTensorRt(spec, self.cuda)
        self.engine = TensorRtEngine(engine_file(folder), self.module, self.cuda, **options)

    @property
    def context(self) -> Any:
        return self.module.engines[0].contexts[0]
