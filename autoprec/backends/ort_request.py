"""What the process that tries models out is told, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoprec.files.json import write_json

MODEL = "model.onnx"
RUNNING = "running"
"""An empty file that says that the model is loaded and runs now."""
_REQUEST = "request.json"


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A model to load and to run once; it lies as `MODEL` in the request's folder.

    Attributes:
        threads: the threads of one run.
        exact: whether Q/DQ pairs stay as they are written.
        shapes: input name -> the shape of a batch; where an input is missing, its open dimensions are 1.
        in_files: whether large weights of the model lie in files, placed relative to the root.
    """

    threads: int
    exact: bool
    shapes: Mapping[str, tuple[int, ...]]
    in_files: bool = False

    def write(self, folder: Path) -> Path:
        """Write the request into the folder; returns the file."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        write_json(
            folder / _REQUEST,
            {"threads": self.threads, "exact": self.exact, "shapes": shapes, "in_files": self.in_files},
        )
        return folder / _REQUEST

    @staticmethod
    def read(path: Path) -> TrialRequest:
        """The request in a file."""
        record = json.loads(path.read_text(encoding="utf-8"))
        shapes = {name: tuple(shape) for name, shape in record["shapes"].items()}
        return TrialRequest(record["threads"], record["exact"], shapes, record["in_files"])
