"""How the values of units that stayed in a high precision look on held-out samples: causes.json, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from autoprec.calibrate.drift import ValueDrift, value_drifts
from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.json import read_json, write_json
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run

SCHEMA = 1
KIND = "autoprec causes"
_SAMPLES = 32
_UNITS = 200


@dataclass(frozen=True, slots=True)
class Causes:
    """What was looked at.

    Attributes:
        samples: the number of selection samples that FP32 ran on.
        values: value name -> how it looks on them.
    """

    samples: int
    values: Mapping[str, ValueDrift]


def kept_high(plan: Assignment, choices: Mapping[str, tuple[Precision, ...]]) -> list[str]:
    """The units that might have run in fewer bits than they do."""
    return [name for name, options in choices.items() if min(p.bits for p in options) < plan[name].bits]


def store_causes(run: Run, plan: Assignment, ranges: RangeTable) -> None:
    """Look at the values of the units that the answer keeps in a high precision, and write causes.json.

    It holds no values where time is limited, or no unit is kept high.
    """
    subject, select = run.task.subject, run.task.splits.select
    high = set(kept_high(plan, subject.choices)[:_UNITS])
    values = tuple(v for unit in subject.partition.units if unit.name in high for v in (*unit.inputs, *unit.outputs))
    found, samples = {}, 0
    if values and not run.budget.limited:
        samples = min(select.count, _SAMPLES)
        found = value_drifts(subject.lowerer, values, run.backend, select.subset(range(samples)), ranges)
    record = {"schema": SCHEMA, "kind": KIND, "samples": samples}
    rows = {name: asdict(drift) for name, drift in found.items()}
    write_json(run.directory.causes, stamped({**record, "values": rows}))


def read_causes(path: Path) -> Causes:
    """What `store_causes` wrote.

    Raises:
        RunDirectoryError: it is damaged, or of a newer schema.
    """
    record = read_json(path, "description of causes", RunDirectoryError, SCHEMA)
    try:
        return Causes(
            int(record["samples"]),
            {
                str(name): ValueDrift(*(float(row[key]) for key in ("low", "high", "beyond", "channel_ratio")))
                for name, row in record["values"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(f"the causes in {path} are damaged ({error!r}); delete the file") from error
