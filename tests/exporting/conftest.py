"""Tests that need torch or transformers are left out where they are not installed."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDS = {
    "torch": ["test_torch_*.py", "test_models_of_torch.py"],
    "transformers": ["test_torch_hugging_face.py"],
}
collect_ignore_glob = [
    pattern for library, patterns in _NEEDS.items() if not find_spec(library) for pattern in patterns
]
