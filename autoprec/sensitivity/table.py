"""The sensitivities of a model: how much each unit loses in each precision, measured at the model's outputs.

One unit at a time is computed with its true quantisation error, in FP32 arithmetic, on the activations of
the FP32 model; only what its outputs reach is computed again, so a profile costs about half of
(units x precisions) passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from autoprec.data.dataset import Dataset
from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import algorithm, stamped
from autoprec.files.json import fingerprint, read_json, write_json
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.repaired import repairs_fingerprint
from autoprec.metrics.metric import Metric
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.sensitivity.job import Entry
from autoprec.sensitivity.mended import REVISION

SCHEMA = 1
DIRECTION = "higher is worse"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What the outputs lose if one unit runs in one precision and all else in FP32.

    Attributes:
        noise: mean noise-to-signal power ratio of the outputs: the ranking number.
        kl: mean KL divergence from FP32, nats; None where the output is no distribution, or very many of them.
        drop: mean loss of the user's metric, positive = worse.
        noise_error: the standard error of the noise over the samples; None where it is not known, as in older tables.
    """

    noise: float
    kl: float | None
    drop: float
    noise_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivities:
    """The sensitivities of a model.

    Attributes:
        entries: (unit, precision) -> sensitivity; higher is worse in every field.
        samples: the number of samples that they are means over; entries that needed fewer count too, so it is the
            fewest of any entry.
        pass_s: the CPU seconds of one entry by a full pass: lowering, building a session, running and scoring.
        spent_s: the CPU seconds of the whole measurement, the reference pass included.
        fingerprint: the fingerprint of graph, weights, data, metric and ranges; with another one they are void.
        revision: the way in which they were measured; see `autoprec.sensitivity.mended`.
    """

    entries: Mapping[tuple[str, Precision], Sensitivity]
    samples: int
    pass_s: float
    spent_s: float
    fingerprint: str
    revision: int = REVISION

    @property
    def passes_per_entry(self) -> float:
        """The cost of an entry in full passes; 1 would be as slow as computing the whole model for each entry."""
        return self.spent_s / max(self.pass_s * len(self.entries), 1e-9)

    def joined(self, earlier: Sensitivities) -> Sensitivities:
        """These together with those of an earlier run of the same fingerprint, and what both cost."""
        entries = {**earlier.entries, **self.entries}
        spent_s, fewest = self.spent_s + earlier.spent_s, min(self.samples, earlier.samples)
        return replace(self, entries=entries, samples=fewest, spent_s=spent_s)

    def without(self, entries: Collection[Entry]) -> Sensitivities:
        """These without the entries that an older revision spoilt, which are to be measured anew."""
        kept = {entry: found for entry, found in self.entries.items() if entry not in entries}
        return replace(self, entries=kept, revision=REVISION)

    def save(self, path: Path) -> None:
        """Write the sensitivities as JSON."""
        rows = [
            {
                "unit": unit,
                "precision": p.value,
                "noise": e.noise,
                "kl": e.kl,
                "drop": e.drop,
                "noise_error": e.noise_error,
            }
            for (unit, p), e in self.entries.items()
        ]
        record = {
            "schema": SCHEMA,
            "direction": DIRECTION,
            "fingerprint": self.fingerprint,
            "revision": self.revision,
            "samples": self.samples,
            "pass_s": self.pass_s,
            "spent_s": self.spent_s,
            "entries": rows,
        }
        write_json(path, stamped(record))


def load_sensitivities(path: Path) -> Sensitivities:
    """Read sensitivities from a file.

    Raises:
        RunDirectoryError: the file is broken, of a newer schema, or says another direction.
    """
    record = read_json(path, "sensitivity profile", RunDirectoryError, SCHEMA)
    if record.get("direction") != DIRECTION:
        raise RunDirectoryError(f"the profile {path} must have direction {DIRECTION!r}; delete it, it is made again")
    try:
        entries = {
            (str(r["unit"]), Precision(r["precision"])): Sensitivity(
                _number(r["noise"]), _optional(r["kl"]), _number(r["drop"]), _optional(r.get("noise_error"))
            )
            for r in record["entries"]
        }
        return Sensitivities(
            entries=entries,
            samples=int(record["samples"]),
            pass_s=float(record["pass_s"]),
            spent_s=float(record["spent_s"]),
            fingerprint=record["fingerprint"],
            revision=int(record.get("revision", 1)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"the profile {path} is damaged ({error!r}); delete it, it is made again") from error


def sensitivity_fingerprint(lowerer: Lowerer, dataset: Dataset, metric: Metric, ranges: RangeTable) -> str:
    """Return the fingerprint of all that sensitivities depend on."""
    model = lowerer.model
    inputs = [model.graph_fingerprint, model.weights_fingerprint, dataset.fingerprint(), metric.fingerprint]
    inputs += repairs_fingerprint(model)
    about = [ranges.fingerprint, lowerer.scheme.name, str(lowerer.carrier), *algorithm("sensitivities")]
    return fingerprint([*inputs, *about])


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)


def _number(value: float | None) -> float:
    return float("inf") if value is None else float(value)
