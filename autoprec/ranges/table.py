"""The calibrated ranges of a network's values, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.errors import AutoprecError, DataError, PlanError, RunDirectoryError
from autoprec.files.json import read_json, write_json
from autoprec.precision import Array
from autoprec.ranges.histogram import Range

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTable:
    """What calibration found.

    Attributes:
        method: the calibrator that was used, or that "auto" chose.
        clipped: value name -> the range for INT8, outliers cut as the calibrator decided.
        extent: value name -> from the smallest value seen to the largest, which FP8 uses.
        means: value name -> mean of each channel, for correcting biases.
        samples: how many samples were seen.
        fingerprint: of the graph, the weights, the data and the recipe.
        evidence: what was measured to choose the method, for the report.
        chosen: value name -> its calibrator, where that is another one than `method`.
    """

    method: str
    clipped: Mapping[str, Range]
    extent: Mapping[str, Range]
    means: Mapping[str, Array]
    samples: int
    fingerprint: str
    evidence: Mapping[str, float]
    chosen: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """The table as JSON."""
        return {
            "schema": SCHEMA,
            "method": self.method,
            "samples": self.samples,
            "fingerprint": self.fingerprint,
            "evidence": dict(self.evidence),
            "chosen": dict(self.chosen),
            "ranges": {
                name: [span.low, span.high, self.extent[name].low, self.extent[name].high]
                for name, span in self.clipped.items()
            },
            "means": {name: mean.tolist() for name, mean in self.means.items()},
        }

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        write_json(path, self.to_record())


def storable(mean: Array) -> Array:
    """`mean` to the nine digits worth keeping in a file, so that what is read back is what was used."""
    return np.array([float(f"{x:.9g}") for x in mean])


def load_ranges(path: Path) -> RangeTable:
    """Read a table.

    Raises:
        RunDirectoryError: the file is broken or of a newer schema.
    """
    record = read_json(path, "range table", RunDirectoryError, SCHEMA)
    return ranges_from_record(record, str(path), RunDirectoryError)


def ranges_from_record(record: Mapping[str, Any], where: str, raising: type[AutoprecError]) -> RangeTable:
    """The table that `to_record` wrote.

    Raises:
        raising: the record is damaged.
    """
    try:
        ranges = {str(name): tuple(map(float, four)) for name, four in record["ranges"].items()}
        return RangeTable(
            method=str(record["method"]),
            clipped={name: Range(low, high) for name, (low, high, _, _) in ranges.items()},
            extent={name: Range(low, high) for name, (_, _, low, high) in ranges.items()},
            means={str(name): np.asarray(mean, np.float64) for name, mean in record["means"].items()},
            samples=int(record["samples"]),
            fingerprint=str(record["fingerprint"]),
            evidence={str(key): float(value) for key, value in record["evidence"].items()},
            chosen={str(name): str(label) for name, label in record.get("chosen", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise raising(f"the ranges in {where} are damaged ({error!r}); delete the file, it is made again") from error


def ranges_from_plan(record: Mapping[str, Any] | None) -> RangeTable | None:
    """The table inside a plan file, None where the plan quantises nothing.

    Raises:
        PlanError: it is damaged.
    """
    return None if record is None else ranges_from_record(record, "the plan", PlanError)
