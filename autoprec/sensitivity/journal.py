"""A file of what was measured so far, from which a killed run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.files.parse import parse_json
from autoprec.precision import Precision
from autoprec.sensitivity.job import Entry
from autoprec.sensitivity.mended import REVISION
from autoprec.sensitivity.scoring import Total

Part = tuple[int, str, Precision]
"""The index of a chunk, a unit and a precision."""


class Journal:
    """Reads and writes the totals of parts, one JSON object a line.

    Args:
        path: the file; None keeps nothing.
        fingerprint: what the totals depend on; lines with another one are passed over.
        mended: the entries of journals of the first revision that are passed over too.
    """

    def __init__(self, path: Path | None, fingerprint: str, mended: frozenset[Entry] = frozenset()) -> None:
        self._path, self._fingerprint, self._mended = path, fingerprint, mended

    def read(self, counts: Sequence[int]) -> tuple[dict[Part, Total], float]:
        """Read the parts that are measured already, and the CPU seconds that they took.

        Args:
            counts: the number of samples of each chunk.
        """
        done: dict[Part, Total] = {}
        spent = 0.0
        if self._path is None or not self._path.is_file():
            return done, spent
        for line in self._path.read_bytes().splitlines():
            try:
                row = parse_json(line.decode())
                if row["mark"] != self._fingerprint:
                    continue
                key, total = _part(row, counts)
                if key[1:] in self._mended and row.get("revision", 1) < REVISION:
                    continue
                done[key], spent = total, float(row["spent_s"])
            except (ValueError, KeyError, IndexError, TypeError, OverflowError):
                continue  # the line that a kill cut off
        return done, spent

    def write(self, chunk: int, totals: Mapping[Entry, Total], spent_s: float) -> None:
        """Add the totals of one chunk.

        Args:
            chunk: the index of the chunk.
            totals: the entries that were measured on it.
            spent_s: CPU seconds of all that was measured up to here, earlier runs included.
        """
        if self._path is None:
            return
        lines = []
        for (unit, precision), total in totals.items():
            drop = total.drop if np.isfinite(total.drop) else None
            row: dict[str, Any] = {
                "mark": self._fingerprint,
                "revision": REVISION,
                "chunk": chunk,
                "unit": unit,
                "precision": precision.value,
            }
            row |= {"noise": total.noise, "kl": total.kl, "drop": drop, "squares": total.squares, "count": total.count}
            lines.append(json.dumps({**row, "spent_s": spent_s}))
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def _part(row: Mapping[str, Any], counts: Sequence[int]) -> tuple[Part, Total]:
    """What one line says.

    Raises:
        ValueError: it is about a chunk that there is not, or holds a number that no measurement gives.
        KeyError, TypeError: something is missing, or of another kind.
    """
    chunk = int(row["chunk"])
    if not 0 <= chunk < len(counts):
        raise ValueError(chunk)
    drop = math.inf if row["drop"] is None else float(row["drop"])
    kl = None if row["kl"] is None else float(row["kl"])
    # Older journals lack the last two.
    squares, count = float(row.get("squares", math.inf)), int(row.get("count", counts[chunk]))
    total = Total(noise=float(row["noise"]), kl=kl, drop=drop, squares=squares, count=count)
    if not 0 <= count <= counts[chunk] or min(total.noise, squares, 0.0 if kl is None else kl) < 0:
        raise ValueError(count)
    return (chunk, str(row["unit"]), Precision(row["precision"])), total
