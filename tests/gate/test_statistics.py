"""Statistics of samples in a baseline."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from autoprec.gate import statistics
from autoprec.gate.statistics import statistics_of_record, statistics_record, unpacked_statistics

ROWS = (np.array([[1.0, -2.5]]), np.zeros((0, 4)), np.arange(12.0).reshape(3, 4) / 7)


def test_statistics_come_back_as_they_were() -> None:
    record = statistics_record({"plan": ROWS})
    found = statistics_of_record(record, 3)

    assert found is not None
    for before, after in zip(ROWS, found["plan"], strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("spoil", [lambda text: text[:-8], lambda text: "!" + text[1:], lambda text: ""])
def test_damaged_statistics_are_refused(spoil: object) -> None:
    record = statistics_record({"plan": ROWS})
    assert record is not None
    text = "".join(record["plan"])

    with pytest.raises(ValueError, match=r"statistics of samples|base64|padded|padding"):
        unpacked_statistics([spoil(text)], 3)  # type: ignore[operator]


def test_statistics_of_another_number_of_samples_are_refused() -> None:
    record = statistics_record({"plan": ROWS})

    with pytest.raises(ValueError, match="statistics of samples"):
        statistics_of_record(record, 2)


def test_a_text_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_BYTES", 1 << 16)
    data = zlib.compress(bytes(1 << 20), 9)

    with pytest.raises(ValueError, match="too many"):
        unpacked_statistics([base64.b64encode(data).decode()], 3)
