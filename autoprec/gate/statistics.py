"""The statistics of samples of a metric over a data set, as a baseline keeps them.

They are numbers that nobody reads: for each sample the shape of its statistics, then all values, compressed and written
as text.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoprec.metrics.over_set import Rows

MOST_BYTES = 1 << 28
"""The most bytes that statistics may have: a file that was made to fill the memory is refused."""
_WIDTH = 120


def packed_statistics(rows: Rows) -> list[str]:
    """Return statistics as lines of text."""
    shapes = np.array([row.shape for row in rows], "<i4").reshape(-1, 2)
    values = np.concatenate([row.ravel() for row in rows]).astype("<f8")
    text = base64.b64encode(zlib.compress(shapes.tobytes() + values.tobytes(), 9)).decode()
    return [text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)]


def unpacked_statistics(lines: Sequence[Any], samples: int) -> Rows:
    """Return what `packed_statistics` wrote.

    Args:
        lines: the text.
        samples: the number of samples.

    Raises:
        ValueError: the text is damaged, or is of another number of samples.
    """
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode("".join(lines), validate=True), MOST_BYTES)
    except (TypeError, zlib.error) as error:
        raise ValueError(f"the statistics of samples are damaged: {error}") from error
    head = samples * 8
    if not unpacker.eof or len(data) < head or (len(data) - head) % 8:
        raise ValueError("the statistics of samples are cut short, too many, or of other samples")
    shapes = np.frombuffer(data[:head], "<i4").reshape(samples, 2).astype(np.int64)
    values = np.frombuffer(data[head:], "<f8").astype(np.float64)
    if shapes.min(initial=1) < 0 or shapes.prod(axis=1).sum() != values.size or not np.isfinite(values).all():
        raise ValueError("the statistics of samples do not fit their shapes, or are not finite")
    parts = np.split(values, np.cumsum(shapes.prod(axis=1))[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes.tolist(), strict=True))


def statistics_record(columns: Mapping[str, Rows] | None) -> dict[str, list[str]] | None:
    """Return the statistics of FP32, the plan and exact arithmetic as JSON; None where the metric has none."""
    return None if not columns else {name: packed_statistics(rows) for name, rows in columns.items()}


def statistics_of_record(record: Any, samples: int) -> dict[str, Rows] | None:
    """Return what `statistics_record` wrote; None where there is nothing.

    Raises:
        ValueError: it is damaged.
    """
    if record is None:
        return None
    if not isinstance(record, dict) or not all(isinstance(lines, list) for lines in record.values()):
        raise ValueError("the statistics of samples must be lists of text")
    return {str(name): unpacked_statistics(lines, samples) for name, lines in record.items()}
