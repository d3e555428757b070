"""The files in examples/ci do what they are for: every command in them is run, as the CI system would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from .conftest import BRIEF_CODE

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "ci"
GITHUB = yaml.safe_load((EXAMPLES / "github.yml").read_text(encoding="utf-8"))
GITLAB = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text(encoding="utf-8"))

# pip without a network: what is asked for is built from the checkout, by the setuptools of these tests.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_COMPILE": "1"}


@dataclass(frozen=True)
class Step:
    """One command line of a job, and whether it runs after a failure."""

    script: str
    always: bool = False


@dataclass(frozen=True)
class Done:
    """What a job came to: the exit code of the first step that failed, and all that was printed."""

    code: int
    output: str
    folder: Path


@dataclass(frozen=True)
class Runner:
    """A machine with the checkout and a fresh Python whose `pip` sees the libraries of these tests.

    `wheel` is the checkout, built once: the jobs install it under the name that their own variable gives.
    """

    checkout: Path
    python: Path
    wheel: Path

    def run(self, steps: Sequence[Step], variables: Mapping[str, str], shell: Sequence[str]) -> Done:
        """Run the steps one after the other, each in a shell of its own."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL"))
        }
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**kept, **OFFLINE, "CI": "true", "PATH": path, **variables}
        code, output = 0, ""
        for step in steps:
            if code and not step.always:
                continue
            done = subprocess.run(
                [*shell, step.script],
                cwd=self.checkout,
                env=environment,
                timeout=900,
                check=False,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            code, output = code or done.returncode, output + done.stdout
        return Done(code, output, self.checkout)

    def github(self) -> Done:
        """The job of the workflow; actions are not run, expressions in commands are not known."""
        [job] = GITHUB["jobs"].values()
        steps = [
            Step(step["run"], always=step.get("if") == "${{ !cancelled() }}") for step in job["steps"] if "run" in step
        ]
        summary = self.checkout / "summary.md"
        summary.write_text("what an earlier step wrote\n")
        variables = {
            **GITHUB["env"],
            "AUTOPREC": str(self.wheel),
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        return self.run(steps, variables, ["bash", "-e", "-c"])

    def gitlab(self) -> Done:
        """The job of the snippet; GitLab runs the lines of both scripts in one shell."""
        [job] = GITLAB.values()
        lines = [*job["before_script"], *job["script"]]
        variables = {**job["variables"], "AUTOPREC": str(self.wheel)}
        return self.run([Step("\n".join(lines))], variables, ["bash", "-eo", "pipefail", "-c"])


@pytest.fixture(name="runner", scope="module")
def _runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """With the baseline committed, made by the commands of README.md."""
    try:
        usable = int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        usable = False
    if not usable:
        pytest.skip("setuptools 77 or newer is not installed here (pip install 'setuptools>=77')")
    checkout, wheels = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheels")
    [version_here] = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    wheel = wheels / f"autoprec-{version_here}-py3-none-any.whl"
    runner = Runner(checkout, fresh_python(tmp_path_factory.mktemp("python")), wheel)
    for name in ("autoprec", "calibration", "examples", "search_spaces"):
        shutil.copytree(ROOT / name, runner.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, runner.checkout)
    for name, count in (("CALIB", 32), ("EVAL", 240)):  # as many as it takes to see a spoilt model
        path = runner.checkout / GITHUB["env"][name]
        with np.load(path) as whole:
            np.savez(path, **{key: whole[key][:count] for key in whole.files})
    [block] = re.findall(r"^```\n(.*?)^```$", (EXAMPLES / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    install = f"python -m pip wheel -w {wheels} . && python -m pip install --ignore-installed {wheel}"
    assert block.startswith("autoprec tune ")
    short = block.replace("autoprec tune ", "autoprec tune --trials 3 ", 1)
    done = runner.run([Step(install), Step(short)], {}, ["bash", "-e", "-c"])
    assert done.code == 0, done.output
    return runner


def fresh_python(folder: Path) -> Path:
    """A virtual environment without autoprec, but with the libraries of the environment that runs the tests."""
    venv.create(folder, symlinks=True)
    command = folder / "bin" / "autoprec"
    [packages] = (folder / "lib").glob("python*/site-packages")
    borrowed = dict.fromkeys([sysconfig.get_path("purelib"), *(path for path in sys.path if "site-packages" in path)])
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")  # their own .pth files are not read
    code = "\n".join(f"    {line}" for line in BRIEF_CODE.splitlines())
    (packages / "sitecustomize.py").write_text(f"import sys\nif sys.orig_argv[1:2] == [{str(command)!r}]:\n{code}\n")
    return folder / "bin" / "python"


@pytest.fixture(name="model")
def _model(runner: Runner) -> Iterator[Path]:
    """The model of the checkout, which is as shipped again after the test."""
    path = runner.checkout / GITHUB["env"]["MODEL"]
    shipped = path.read_bytes()
    yield path
    path.write_bytes(shipped)


def spoil(model: Path) -> None:
    """What a retrain that went wrong does: two classes changed places."""
    proto = onnx.load(model)
    [logits] = [node for node in proto.graph.node if proto.graph.output[0].name in node.output]
    for tensor in proto.graph.initializer:
        if tensor.name in logits.input:
            array = numpy_helper.to_array(tensor).copy()
            axis = array.shape.index(10)
            swapped = np.take(array, [1, 0, *range(2, 10)], axis=axis)
            tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))
    onnx.save(proto, model)


def findings(report: Path) -> dict[str, str]:
    """Check -> "failure", "error", "skipped" or "system-out", from a job's JUnit file."""
    cases = ElementTree.parse(report).iter("testcase")
    return {case.get("name", "").split()[0]: case[0].tag for case in cases}


def assert_passed(done: Done) -> None:
    """The job passed, latency too: the model that is built is the baseline's, so no noise can fail it."""
    found = findings(done.folder / "gate.xml")

    assert done.code == 0, done.output
    assert set(found.values()) <= {"system-out", "skipped"}, done.output
    assert found["accuracy"] == found["latency"] == found["size"] == found["ranges"] == "system-out"


@pytest.mark.slow
class TestCommands:
    def test_autoprec_is_what_the_job_installed(self, runner: Runner) -> None:
        script = "cd /; python -c 'import autoprec; print(autoprec.__file__)'; command -v autoprec"
        done = runner.run([Step(script)], {}, ["bash", "-e", "-c"])

        assert [Path(line).is_relative_to(runner.python.parents[1]) for line in done.output.split()] == [True, True]

    def test_github_passes_an_unchanged_model(self, runner: Runner) -> None:
        done = runner.github()

        assert_passed(done)
        assert "::error" not in done.output
        assert (done.folder / "summary.md").read_text().startswith("what an earlier step wrote\n### Precision gate: ")

    def test_github_fails_a_spoilt_model_and_says_where(self, runner: Runner, model: Path) -> None:
        spoil(model)
        [upload] = [step for step in steps() if "upload-artifact" in step.get("uses", "")]
        report = runner.checkout / upload["with"]["path"]
        report.unlink(missing_ok=True)
        done = runner.github()

        assert done.code == 1, done.output
        annotation = "::error title=autoprec accuracy%3A worse than allowed,file=examples/digits/baseline.json::"
        assert annotation in [line[: len(annotation)] for line in done.output.splitlines()]
        assert "| accuracy | worse than allowed |" in (done.folder / "summary.md").read_text()
        assert upload["if"] == "${{ !cancelled() }}"
        assert findings(report)["accuracy"] == "failure"

    def test_gitlab_passes_an_unchanged_model(self, runner: Runner) -> None:
        done = runner.gitlab()

        assert_passed(done)
        assert "### Precision gate: " in (done.folder / "gate.md").read_text()

    def test_gitlab_fails_a_spoilt_model_and_keeps_its_reports(self, runner: Runner, model: Path) -> None:
        spoil(model)
        artifacts = GITLAB["precision"]["artifacts"]
        files = [runner.checkout / name for name in (*artifacts["paths"], artifacts["reports"]["junit"])]
        for file in files:
            file.unlink(missing_ok=True)
        done = runner.gitlab()

        assert done.code == 1, done.output
        assert artifacts["when"] == "always"
        assert "### Precision gate: worse than allowed\n" in files[0].read_text()
        assert findings(files[-1])["accuracy"] == "failure"

    def test_a_missing_baseline_fails_both(self, runner: Runner) -> None:
        baseline = runner.checkout / GITHUB["env"]["BASELINE"]
        kept = baseline.rename(baseline.with_suffix(".kept"))
        try:
            done = [runner.github(), runner.gitlab()]
        finally:
            kept.rename(baseline)

        assert [job.code for job in done] == [3, 3], done
        assert all("there is no baseline" in job.output for job in done)


class TestFiles:
    def test_both_name_the_same_files_and_these_exist(self) -> None:
        assert GITHUB["env"] == GITLAB["precision"]["variables"]
        names = {name: path for name, path in GITHUB["env"].items() if name not in ("AUTOPREC", "BASELINE")}
        assert [path for path in names.values() if not (ROOT / path).is_file()] == []
        assert f"-o {GITHUB['env']['BASELINE']}\n" in (EXAMPLES / "README.md").read_text()

    def test_the_workflow_may_only_read(self) -> None:
        assert GITHUB["permissions"] == {"contents": "read"}
        assert all("permissions" not in job for job in GITHUB["jobs"].values())

    def test_no_expression_is_pasted_into_a_command(self) -> None:
        """GitHub pastes them unquoted: the name of a branch could become a command."""
        assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []

    def test_the_actions_are_those_of_this_project(self) -> None:
        own = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
        used = {step["uses"] for job in own["jobs"].values() for step in job["steps"] if "uses" in step}

        assert used < {step["uses"] for step in steps() if "uses" in step} <= used | {"actions/upload-artifact@v4"}


def steps() -> list[dict[str, Any]]:
    return [step for job in GITHUB["jobs"].values() for step in job["steps"]]
