"""The gate: a committed baseline, a fresh measurement, and a verdict with its reasons."""
