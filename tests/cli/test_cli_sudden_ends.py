"""What ends a command from outside ends it in a sentence, and never in a traceback."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from autoprec.cli import main, units
from autoprec.errors import EXIT_INTERRUPTED, EXIT_USAGE


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BrokenPipeError(), EXIT_INTERRUPTED, "nobody reads the output any more"),
        (MemoryError(), EXIT_USAGE, "memory"),
        (ImportError("x.so: failed to map segment from shared object"), EXIT_USAGE, "allow more memory"),
    ],
)
def test_a_sudden_end_is_said(monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, text: str) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(units.command, "callback", fail)
    done = CliRunner().invoke(main, ["units", "model.onnx"], catch_exceptions=False)

    assert done.exit_code == code
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("autoprec: ")
    assert text in done.stderr
