"""Runs the code cells of a notebook in a process of their own, without Jupyter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ..conftest import BRIEF_CODE


def code_of(notebook: Path) -> list[str]:
    """The code cells of a notebook, in order."""
    record = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in record["cells"] if cell["cell_type"] == "code"]


def shown_by(notebook: Path) -> list[str]:
    """The texts that the notebook was saved with, one for each code cell."""
    record = json.loads(notebook.read_text(encoding="utf-8"))
    cells = [cell for cell in record["cells"] if cell["cell_type"] == "code"]
    return ["".join(line for out in cell["outputs"] for line in out.get("text", [])) for cell in cells]


def run_notebook(notebook: Path) -> list[str]:
    """Run the code cells one after the other in the notebook's folder, and return what each of them printed.

    Raises:
        AssertionError: a cell raised an error.
    """
    mark = "<<end of the cell>>"
    script = f"{BRIEF_CODE}\n" + "\n".join(f"{cell}\nprint({mark!r})" for cell in code_of(notebook))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=notebook.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [text.strip("\n") for text in done.stdout.split(mark)[:-1]]
