"""Tests that need torch are left out where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_torch_*.py", "test_models_of_torch.py"]
