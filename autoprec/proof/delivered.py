"""What a build delivered: the files, and the proof of what the engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprec.backends.protocol import Engine
from autoprec.errors import UsageError
from autoprec.files.json import write_json
from autoprec.proof.unit_times import UnitTimes
from autoprec.proof.verification import Verification

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.records import EngineFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The files that were written, and what was measured of them.

    Attributes:
        model: the path of the lowered model.
        counts: precision -> the number of units that run in it.
        model_bytes: the size of the lowered model.
        original_bytes: the size of the model that was lowered.
        engine_path: the path of the engine, or None if none was built; a JSON file that describes it lies beside it.
        engine: the record of how the engine was made.
        verification: the precision that each unit really runs in.
        times: the time of each unit.
    """

    model: Path
    counts: Mapping[str, int]
    model_bytes: int
    original_bytes: int
    engine_path: Path | None = None
    engine: EngineFile | None = None
    verification: Verification | None = None
    times: UnitTimes | None = None

    def open(self) -> Engine:
        """Return the engine on the current GPU: `run` takes and returns arrays by name, `time_ms` times runs.

        It is a context manager that frees the engine.

        Raises:
            BackendError: there is no GPU, none of the architecture that the engine is for, or none of its runtime.
            UsageError: no engine was built.
        """
        if self.engine_path is None:
            raise UsageError(f"no engine of {self.model} was built; name a backend that builds one")
        from autoprec.backends.tensorrt.opening import open_engine

        return open_engine(self.engine_path)

    def to_record(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        record: dict[str, Any] = {
            "written": str(self.model),
            "units": dict(self.counts),
            "bytes": self.model_bytes,
            "model_bytes": self.original_bytes,
        }
        if self.engine is not None:
            record["engine"] = engine_record(self.engine) | {"written": str(self.engine_path)}
        return record | self._proof()

    def _proof(self) -> dict[str, Any]:
        record = {}
        if self.verification is not None:
            record["verification"] = self.verification.to_record()
            if self.times is not None:
                record["profile"] = self.times.to_record(self.verification)
        return record

    def write_record(self, plan: Path) -> None:
        """Write a JSON file beside the engine that says how it was made from the file `plan`."""
        if self.engine is None or self.engine_path is None:
            return
        record = {"schema": 1, "kind": "autoprec engine"} | engine_record(self.engine) | {"plan": str(plan)}
        write_json(self.engine_path.with_suffix(".json"), record | self._proof())


def engine_record(file: EngineFile) -> dict[str, Any]:
    """Return how an engine was made, with its layers, as plain JSON values."""
    record = asdict(file)
    del record["path"]
    return record
