"""What `autoprec tune` says where a runtime did something else than it was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from autoprec.backends import make
from autoprec.backends.protocol import Backend
from autoprec.errors import EXIT_INFEASIBLE, EXIT_NOT_HONOURED, EXIT_OK, EXIT_USAGE

from ..helpers.bad_backends import Disobedient, Miscalculating, Refusing
from ..helpers.cpu_kernels import needs_exact_products

Invoke = Callable[..., Result]
Tune = Callable[..., Result]

WORDS = ("tune", "tiny.onnx", "--calib", "data.npz", "--metric", "agreement", "--max-drop", "inf", "--trials", "6")


@pytest.fixture(name="tune")
def _tune(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Run `autoprec tune` with a backend of ours."""

    def run(backend: Backend, *words: str) -> Result:
        monkeypatch.setattr(make, "make_backend", lambda *_: backend)
        return invoke(*WORDS, "--recipe", "minmax", "--out", "run", "--quiet", *words)

    return run


def test_an_engine_that_scores_differently_is_warned_of(tune: Tune) -> None:
    result = tune(Miscalculating())

    assert result.exit_code == EXIT_OK
    assert "warning: the engine scores 0." in result.stdout
    assert "the runtime computes something else than the plan says. `autoprec diagnose` shows where." in result.stdout


@needs_exact_products
def test_one_that_does_not_is_not(tune: Tune) -> None:
    result = tune(Miscalculating(wrong=False))

    assert result.exit_code == EXIT_OK
    assert "warning" not in result.output
    assert "units as they ran: 5 ran as planned.\n" in result.stdout


def test_a_convolution_that_was_not_honoured_has_its_own_exit_code(tune: Tune, work: Path) -> None:
    result = tune(Disobedient("conv1"), "--pin", "conv1=int8")

    assert result.exit_code == EXIT_NOT_HONOURED
    assert "the engine must run each convolution and matrix product in the precision of the plan, but 1 of 4" in (
        result.stderr
    )
    assert "conv1 was asked for in int8 but runs in a float type" in result.stderr
    assert (work / "run" / "plan.json").is_file()


def test_where_there_is_a_choice_the_answer_is_a_plan_that_runs_as_asked(tune: Tune, work: Path) -> None:
    result = tune(Disobedient("conv1"), "--max-drop", "inf")
    assert result.exit_code == EXIT_OK, result.output
    units = json.loads((work / "run" / "plan.json").read_text())["units"]

    assert result.exit_code == EXIT_OK
    assert units["conv1"]["precision"] == "fp32"
    assert "int8" in {choice["precision"] for choice in units.values()}
    assert "it would not run as asked: conv1 was asked for in int8 but runs in a float type" in result.stdout


def test_that_exit_code_goes_before_the_one_of_an_unmet_bound(tune: Tune) -> None:
    """The bound was judged on an engine that is not the plan's."""
    pins = ("--pin", ".*=int8", "--max-drop", "0", "--metric", "sqnr")

    assert tune(Miscalculating(wrong=False), *pins).exit_code == EXIT_INFEASIBLE
    assert tune(Disobedient("conv1"), *pins).exit_code == EXIT_NOT_HONOURED


def test_json_has_the_complaint_in_the_document(tune: Tune) -> None:
    result = tune(Disobedient("conv1", "conv2"), "--pin", "conv=int8", "--json")
    record = json.loads(result.stdout)

    assert result.exit_code == EXIT_NOT_HONOURED
    assert record["verification"]["refused"] == ["conv1", "conv2"]
    assert record["complaint"].startswith("the engine must run each convolution")


def test_refused_plans_are_said_with_the_runtimes_words(tune: Tune) -> None:
    result = tune(Refusing(lambda codes: len(codes) == 3))

    assert result.exit_code == EXIT_OK
    assert "refused by the runtime: uniform int8: no kernel computes conv1, conv2, conv3 in int8" in result.stdout


def test_a_runtime_that_refuses_the_model_is_bad_input(tune: Tune) -> None:
    result = tune(Refusing(lambda _: True))

    assert result.exit_code == EXIT_USAGE
    assert result.stderr.startswith("autoprec: no kernel computes no convolution in int8")
