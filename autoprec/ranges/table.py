"""The calibrated ranges of the values of a network, and the file that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.errors import AutoprecError, DataError, PlanError, RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.json import read_json, write_json
from autoprec.precision import Array, Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.moments import Moments, moments_from_record

SCHEMA = 1
EIGHT_BITS = frozenset({Precision.INT8, Precision.INT8_WEIGHTS})
"""The formats of stored weights whose codes are integers of 8 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTable:
    """The result of calibration.

    Attributes:
        method: the name of the calibrator that was used, or that "auto" chose.
        clipped: value name -> the range for INT8, without the outliers that the calibrator clips.
        extent: value name -> the range from the smallest value seen to the largest, which FP8 uses.
        means: value name -> the mean of each channel, float64[channels], from which biases are corrected.
        samples: the number of samples that were seen.
        fingerprint: the fingerprint of the graph, the weights, the data and the recipe.
        evidence: the figures from which the method was chosen, for the report.
        chosen: value name -> the name of its calibrator if that is another one than `method`.
        moments: value name -> the second moments of its channels, by which weights of products are rounded.
        patches: value name -> how convolutions cut it, see `Reading.key` -> the second moments of its patches.
        rounds_8_bits: whether weights of 8 bits are rounded by moments too, and not only those in blocks of 4 bits.
    """

    method: str
    clipped: Mapping[str, Range]
    extent: Mapping[str, Range]
    means: Mapping[str, Array]
    samples: int
    fingerprint: str
    evidence: Mapping[str, float]
    chosen: Mapping[str, str] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)
    patches: Mapping[str, Mapping[str, Moments]] = field(default_factory=dict)
    rounds_8_bits: bool = False

    @property
    def readings(self) -> dict[tuple[str, str], Moments]:
        """What layers read, as `Reading.key` tells it -> its second moments."""
        found = {(value, ""): moments for value, moments in self.moments.items()}
        return found | {(value, how): each for value, cut in self.patches.items() for how, each in cut.items()}

    def for_plan(self, precisions: Iterable[Precision]) -> RangeTable:
        """Return the table without what no unit of such a plan needs."""
        wanted = any(p.block or (self.rounds_8_bits and p.of_weights in EIGHT_BITS) for p in precisions)
        return self if wanted else replace(self, moments={}, patches={}, rounds_8_bits=False)

    def to_record(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        rounded: dict[str, Any] = {}
        if self.moments:
            rounded["moments"] = {name: each.to_record() for name, each in self.moments.items()}
        if self.patches:
            rounded["patches"] = {
                name: {how: each.to_record() for how, each in cut.items()} for name, cut in self.patches.items()
            }
        if self.rounds_8_bits:
            rounded["rounds_8_bits"] = True
        return rounded | {
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
        """Write the table to a JSON file.

        Raises:
            RunDirectoryError: the file cannot be written.
        """
        write_json(path, stamped(self.to_record()))


def known_range(ranges: RangeTable | None, name: str, *, exact: bool) -> Range:
    """Return the calibrated range of a value.

    Args:
        ranges: the table, None where nothing was calibrated.
        name: the value.
        exact: whether the range is that of all values seen, and not the one that a calibrator has clipped.

    Raises:
        PlanError: the value was not calibrated.
    """
    if ranges is None:
        raise PlanError("a plan with INT8 or FP8 units needs calibrated ranges; give calibration data by --calib")
    table = ranges.extent if exact else ranges.clipped
    if name not in table:
        raise PlanError(
            f"value {name!r} must be quantised but was not calibrated; run the calibration again for this plan"
        )
    return table[name]


def storable(mean: Array) -> Array:
    """Return `mean` rounded to the nine digits that are stored, so that reading a file gives back what was used."""
    return np.array([float(f"{x:.9g}") for x in mean])


def load_ranges(path: Path) -> RangeTable:
    """Read a table from a file.

    Raises:
        RunDirectoryError: the file is missing or broken, or it has a newer schema.
    """
    record = read_json(path, "range table", RunDirectoryError, SCHEMA)
    return ranges_from_record(record, str(path), RunDirectoryError)


def ranges_from_record(record: Mapping[str, Any], where: str, raising: type[AutoprecError]) -> RangeTable:
    """Return the table that `to_record` described.

    Args:
        record: the table as plain JSON values.
        where: the name of the file in messages.
        raising: the class of the error that is raised.

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
            moments={str(name): moments_from_record(each) for name, each in record.get("moments", {}).items()},
            patches={
                str(name): {str(how): moments_from_record(each) for how, each in cut.items()}
                for name, cut in record.get("patches", {}).items()
            },
            rounds_8_bits=bool(record.get("rounds_8_bits", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise raising(
            f"the ranges in {where} are damaged ({error!r}); delete the file, then it is made again"
        ) from error


def ranges_from_plan(record: Mapping[str, Any] | None) -> RangeTable | None:
    """Return the table inside a plan file, or None if the plan quantises nothing.

    Raises:
        PlanError: the table is damaged.
    """
    return None if record is None else ranges_from_record(record, "the plan", PlanError)
