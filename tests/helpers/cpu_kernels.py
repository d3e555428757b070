"""Tests that hold only where the 8-bit kernels of this CPU are exact."""

from __future__ import annotations

import pytest

from autoprec.backends.ort_sessions import products_are_exact

needs_exact_products = pytest.mark.skipif(
    not products_are_exact(),
    reason="this CPU's 8-bit products saturate at 16 bits, so real kernels and exact arithmetic differ",
)
