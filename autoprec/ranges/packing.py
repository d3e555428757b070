"""The counts of a histogram as text, so that a JSON record can hold them."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np

from autoprec.precision import Array


def packed_counts(counts: Array) -> str:
    """Return int64 counts as compressed text: little-endian bytes, deflated, in base 64."""
    return base64.b64encode(zlib.compress(counts.astype("<i8").tobytes(), 6)).decode("ascii")


def unpacked_counts(text: str, bins: int) -> Array:
    """Return the int64[bins] counts that `packed_counts` wrote.

    Raises:
        ValueError: the text is damaged, or it does not hold `bins` counts of at least 0.
    """
    unpacker = zlib.decompressobj()
    try:
        # The limit on the length keeps a damaged record from filling the memory.
        data = unpacker.decompress(base64.b64decode(text, validate=True), bins * 8 + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(data) != bins * 8:
        raise ValueError(f"there must be {bins} counts")
    counts: Array = np.frombuffer(data, "<i8").astype(np.int64)
    if counts.min() < 0:
        raise ValueError("counts must be 0 or more")
    return counts
