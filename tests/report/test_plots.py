"""Plots have room for their curves, however many precisions a run had."""

from __future__ import annotations

import warnings

import pytest

from autoprec.precision import Precision
from autoprec.report.plots import COLOURS, svg
from autoprec.report.sections import Curves


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_names_of_many_curves_leave_room_for_the_curves(count: int) -> None:
    pytest.importorskip("matplotlib")
    series = {f"uniform {p}": [0.1, 0.2, 0.3] for p in list(Precision)[-count:]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns where it finds no room

        text = svg(Curves(title="Latency", y="ms", series=series, logarithmic=False), 1)

    assert all(name in text for name in series)


def test_each_precision_has_a_colour_of_its_own() -> None:
    found = [COLOURS[p.value] for p in Precision]
    assert len({*found}) >= len(found) - 1  # one of four bits shares that of FP16
