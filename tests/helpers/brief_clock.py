"""Reading the clock for as short as tests need it, which look at no latency: it is two thirds of a small tune's CPU."""

from __future__ import annotations

import pytest

BRIEF = {
    "autoprec.run.answer.side_by_side.CONFIRM_TURN_MS": 6.0,
    "autoprec.run.answer.side_by_side.MOST_ROUNDS": 9,
    "autoprec.run.measure.TRIAL_TURN_MS": 2.0,
    "autoprec.run.measure.TRIAL_ROUNDS": (3, 5),
}
"""Name -> the value in tests: shorter turns and fewer rounds than users get; benchmarks look at how sure these are."""

BRIEF_CODE = "import importlib\n" + "\n".join(
    f"importlib.import_module({module!r}).{name} = {value!r}"
    for (module, _, name), value in ((path.rpartition("."), value) for path, value in BRIEF.items())
)
"""The same for a process of its own: Python code that runs before anything else of it."""


def be_brief(patch: pytest.MonkeyPatch) -> None:
    """Set the values in this process."""
    for path, value in BRIEF.items():
        patch.setattr(path, value)
