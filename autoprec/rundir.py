"""The run directory: one file for each finished stage, so that a stage is redone only where its inputs changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.records import read_json, write_bytes, write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where a run keeps what it found. Nothing is written outside of it."""

    root: Path

    @property
    def ranges(self) -> Path:
        """Calibrated ranges."""
        return self.root / "ranges.json"

    @property
    def profile(self) -> Path:
        """Sensitivities."""
        return self.root / "profile.json"

    @property
    def profile_journal(self) -> Path:
        """Sensitivities as they are measured."""
        return self.root / "profile.partial.jsonl"

    @property
    def latency(self) -> Path:
        """Profiled milliseconds of each unit."""
        return self.root / "latency.json"

    @property
    def study(self) -> Path:
        """The Optuna study's journal."""
        return self.root / "study.log"

    @property
    def plan(self) -> Path:
        """The chosen plan."""
        return self.root / "plan.json"

    @property
    def model(self) -> Path:
        """The lowered model."""
        return self.root / "model.onnx"

    @property
    def result(self) -> Path:
        """What the command printed, as JSON."""
        return self.root / "result.json"

    def prepare(self) -> None:
        """Make the folder and see that it can be written.

        Raises:
            RunDirectoryError: it cannot, or a file is in its place.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"the run directory {self.root} cannot be made: {error.strerror or error}; choose another by --out"
            ) from error
        probe = self.root / ".writable"
        write_bytes(probe, b"")
        probe.unlink(missing_ok=True)

    def stored(self, path: Path, what: str, mark: str) -> dict[str, Any] | None:
        """The record of a stage if it was made from the same inputs, else None.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        if not path.is_file():
            return None
        record = read_json(path, what, RunDirectoryError, SCHEMA)
        return record if record.get("fingerprint") == mark else None

    def store(self, path: Path, mark: str, record: dict[str, Any]) -> None:
        """Write the record of a stage with the fingerprint of its inputs."""
        write_json(path, {"schema": SCHEMA, "fingerprint": mark, **record})
