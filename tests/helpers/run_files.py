"""The files of a run directory."""

from __future__ import annotations

FINISHED = [
    "autoprec-files.json",
    "causes.json",
    "evidence.json",
    "latency.json",
    "model.onnx",
    "network.json",
    "plan.json",
    "profile.json",
    "ranges.json",
    "result.json",
    "search.json",
    "study.json",
    "study.log",
]
"""What a tune that has ended leaves there, sorted."""
