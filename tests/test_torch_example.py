"""The torch example does what its page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .conftest import BRIEF_CODE

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "torch_classifier"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="pip install '.[torch]'")
def test_the_plan_recognises_as_many_digits_as_the_module(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("runs"))
    script = f"{BRIEF_CODE}\nimport runpy, sys\nsys.argv = ['tune.py', '2']\nsys.path.insert(0, '')\n"
    script += "runpy.run_path('tune.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "example", capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    module, plan, again = map(
        float, re.findall(r"module: ([\d.]+), by the plan: ([\d.]+)\n.*: ([\d.]+)", done.stdout)[0]
    )
    assert module > 0.9
    assert plan == again >= module - 0.02
