"""The pytest plugin, run as a user runs it; only the measuring is replaced where words and order are at stake."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from importlib.metadata import entry_points
from xml.etree import ElementTree

import pytest

from autoprec import pytest_plugin

from .helpers.fake_judge import JUDGE

pytest_plugins = ["pytester"]


@pytest.fixture(name="project")
def _project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose gates come to what their model's name says."""
    pytester.makeconftest(JUDGE)
    return pytester


def gated(project: pytest.Pytester, model: str, options: str = "", marker: str = "") -> None:
    """A test file with one gate."""
    project.makepyfile(
        test_gate=f"""
        import pytest

        {f"@pytest.mark.autoprec({marker})" if marker else ""}
        def test_precision(autoprec_gate):
            autoprec_gate("{model}.onnx", baseline="b.json"{options})
        """
    )


def calls(project: pytest.Pytester) -> list[dict[str, object]]:
    return [json.loads(line) for line in (project.path / "calls.jsonl").read_text().splitlines()]


class TestVerdicts:
    def test_a_fine_model_passes_and_what_was_not_judged_is_said(self, project: pytest.Pytester) -> None:
        gated(project, "fine")
        result = project.runpytest("--strict-markers", "-W", "error")

        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["=* autoprec =*", "test_gate.py::test_precision: fine: accuracy; not judged here: latency"]
        )

    @pytest.mark.parametrize(
        ("model", "words"),
        [("worse", "worse than allowed"), ("dishonoured", "not run as planned")],
    )
    def test_the_item_itself_fails_with_the_table(self, project: pytest.Pytester, model: str, words: str) -> None:
        gated(project, model)
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "*_ test_precision _*",
                f"{words}: accuracy (-1.4 points, allowed -0.5 points); not judged here: latency",
                f"{model}.onnx against b.json, 1.5 s",
                "",
                "check     verdict  *  baseline  now     change       allowed",
                "--------  *",
                f"accuracy  {words}  *98.9 %    97.5 %  -1.4 points  -0.5 points",
                "latency   not judged here *",
                "",
                "accuracy: the sentence.",
                "",
                "latency: another CPU.",
                "",
                "changed since the baseline:",
                "  - driver: 550 -> 580",
                "*= short test summary info =*",
                f"FAILED test_gate.py::test_precision - Failed: {words}: acc*",
            ],
            consecutive=True,
        )

    def test_a_failure_shows_no_line_of_the_plugin(self, project: pytest.Pytester) -> None:
        gated(project, "worse")
        shown = project.runpytest("--tb=long").stdout.str()

        assert not any(word in shown for word in ("pytest_plugin", "Traceback", "INTERNALERROR", "autoprec_gate("))

    def test_junit_of_pytest_carries_the_verdict(self, project: pytest.Pytester) -> None:
        gated(project, "worse")
        project.runpytest("--junitxml=junit.xml")
        case = ElementTree.parse(project.path / "junit.xml").find(".//testcase")
        assert case is not None
        found = case.find("properties/property")
        assert found is not None

        assert found.attrib == {
            "name": "autoprec",
            "value": "worse than allowed: accuracy (-1.4 points, allowed -0.5 points); not judged here: latency",
        }
        assert case.find("failure") is not None

    def test_the_table_of_a_passed_test_is_shown_on_demand(self, project: pytest.Pytester) -> None:
        gated(project, "fine")

        project.runpytest("-rP").stdout.fnmatch_lines(["accuracy  fine *98.9 %    97.5 %  -1.4 points  -0.5 points"])

    def test_a_test_gets_the_report(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            """
            def test_precision(autoprec_gate):
                report = autoprec_gate("fine.onnx", baseline="b.json")
                assert [check.name for check in report.checks] == ["accuracy", "latency"]
                assert report.changes == ("driver: 550 -> 580",)
            """
        )

        project.runpytest().assert_outcomes(passed=1)


class TestUndecided:
    def test_a_gate_that_cannot_judge_fails_by_default(self, project: pytest.Pytester) -> None:
        """A gate that says nothing must not look like one that passed."""
        gated(project, "doubtful")
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["cannot judge: accuracy; not judged here: latency", "accuracy: the sentence."])

    @pytest.mark.parametrize(
        ("options", "marker", "ini", "line"),
        [
            (", cannot_judge='skip'", "", "", ()),
            ("", "cannot_judge='skip'", "", ()),
            ("", "", "skip", ()),
            ("", "", "", ("--autoprec-cannot-judge=skip",)),
            (", cannot_judge='fail'", "", "", ("--autoprec-cannot-judge=skip",)),
            (", cannot_judge='skip'", "cannot_judge='fail'", "fail", ()),
        ],
    )
    def test_it_is_skipped_where_that_is_asked_for(
        self, project: pytest.Pytester, options: str, marker: str, ini: str, line: tuple[str, ...]
    ) -> None:
        """The command line is asked first, then the call, the marker and the ini-file."""
        if ini:
            project.makeini(f"[pytest]\nautoprec_cannot_judge = {ini}\n")
        gated(project, "doubtful", options, marker)
        result = project.runpytest("-rs", *line)

        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED * cannot judge: accuracy; not judged here: latency"])

    @pytest.mark.parametrize("model", ["worse", "dishonoured", "edited", "new"])
    def test_nothing_else_is_ever_skipped(self, project: pytest.Pytester, model: str) -> None:
        gated(project, model)

        project.runpytest("--autoprec-cannot-judge=skip").assert_outcomes(failed=1)


class TestMistakes:
    @pytest.mark.parametrize(
        ("model", "words"),
        [
            ("edited", "autoprec: the baseline b.json was edited by hand; make it again"),
            ("new", "autoprec: there is no baseline b.json; make one"),
        ],
    )
    def test_an_unusable_baseline_fails_with_its_words_alone(
        self, project: pytest.Pytester, model: str, words: str
    ) -> None:
        gated(project, model)
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*_ test_precision _*", words, "*= short test summary info =*"], consecutive=True)

    def test_a_call_without_a_baseline(self, project: pytest.Pytester) -> None:
        project.makepyfile("def test_precision(autoprec_gate): autoprec_gate('fine.onnx')")
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["autoprec_gate needs baseline=FILE, here or in the marker; make one: autoprec baseline RUN -o FILE"]
        )

    @pytest.mark.parametrize(
        ("options", "marker", "words"),
        [
            (", max_dorp=0.1", "", "autoprec_gate has no option 'max_dorp'; it has baseline, *, max_drop, *"),
            ("", "max_dorp=0.1", "the marker autoprec has no option 'max_dorp'; it has baseline, *, max_drop, *"),
            ("", "0.1", "the marker autoprec takes options by name only, such as max_drop=0.01; got 0.1"),
            (", max_drop=-0.1", "", "autoprec: --max-drop must be a number from 0 on, got -0.1"),
            (", cannot_judge='pass'", "", "cannot_judge must be 'fail' or 'skip', got 'pass'"),
        ],
    )
    def test_an_option_that_cannot_be_meant(
        self, project: pytest.Pytester, options: str, marker: str, words: str
    ) -> None:
        """Ignored, a misspelt bound would let everything pass."""
        gated(project, "fine", options, marker)
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*_ test_precision _*", words, "*= short test summary info =*"], consecutive=True)

    def test_a_third_way_in_the_ini_file(self, project: pytest.Pytester) -> None:
        project.makeini("[pytest]\nautoprec_cannot_judge = pass\n")
        gated(project, "fine")
        result = project.runpytest()

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: autoprec_cannot_judge must be fail or skip, got 'pass'"])

    def test_a_bug_keeps_its_traceback(self, project: pytest.Pytester) -> None:
        gated(project, "bug")
        result = project.runpytest()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E * ZeroDivisionError: a bug"])
        result.stdout.no_fnmatch_line("*INTERNALERROR*")


class TestOptions:
    def test_the_call_wins_over_the_closest_marker_over_the_others(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            """
            import pytest

            pytestmark = pytest.mark.autoprec(max_drop=0.1, max_size=0.1, threads=1, baseline="module.json")

            @pytest.mark.autoprec(max_drop=0.2, threads=2)
            class TestModels:
                @pytest.mark.autoprec(threads=3, latency_required=True)
                def test_precision(self, autoprec_gate, tmp_path):
                    options = {"eval": "eval.npz", "calib": {"x": [1]}, "baseline_model": "m.onnx"}
                    autoprec_gate(tmp_path / "fine.onnx", threads=4, max_size=None, **options)
            """
        )
        project.runpytest().assert_outcomes(passed=1)
        [call] = calls(project)

        assert str(call.pop("model")).endswith("/fine.onnx")
        assert call == {
            "name": "gate",
            "baseline": "module.json",
            "baseline_model": "m.onnx",
            "threads": 4,
            "eval": "eval.npz",
            "calib": {"x": [1]},
            "limits": {
                "max_drop": 0.2,
                "max_slowdown": 0.05,
                "max_size": None,
                "max_bytes": None,
                "max_range_bits": 1.0,
                "latency_required": True,
            },
        }

    def test_every_option_is_one_of_the_gate(self) -> None:
        from autoprec.gate.judge import Limits, gate, update_baseline

        given_by_the_plugin = {"model", "limits", "work", "progress"}
        limits = {field.name for field in dataclasses.fields(Limits)}
        sources = set(inspect.signature(gate).parameters) - given_by_the_plugin

        assert set(pytest_plugin._OPTIONS) == {"cannot_judge"} | limits | sources
        assert set(pytest_plugin._LIMITS) == limits
        assert set(pytest_plugin._SOURCES) <= set(inspect.signature(update_baseline).parameters)

    def test_tests_with_the_fixture_have_the_marker(self, project: pytest.Pytester) -> None:
        gated(project, "fine")
        project.makepyfile(test_other="def test_other(): pass")

        project.runpytest("-m", "autoprec", "--strict-markers").assert_outcomes(passed=1, deselected=1)
        project.runpytest("-m", "not autoprec").assert_outcomes(passed=1, deselected=1)
        assert len(calls(project)) == 1

    def test_the_marker_and_the_fixture_are_documented(self, project: pytest.Pytester) -> None:
        project.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.autoprec(*max_drop*): *"])
        project.runpytest("--fixtures").stdout.fnmatch_lines(
            ["autoprec_gate -- *pytest_plugin.py:*", "    Judge a model against its committed baseline: *"]
        )


class TestUpdate:
    def test_the_baseline_is_rewritten_and_then_judged_by(self, project: pytest.Pytester) -> None:
        gated(project, "fine", ", eval='eval.npz', max_drop=0.1")
        result = project.runpytest("--autoprec-update")

        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            [
                "test_gate.py::test_precision: rewrote b.json; review and commit it",
                "test_gate.py::test_precision: fine: accuracy; not judged here: latency",
            ],
            consecutive=True,
        )
        update, judged = calls(project)
        assert update == {"name": "update", "model": "fine.onnx", "baseline": "b.json", "eval": "eval.npz"}
        assert (judged["name"], judged["eval"]) == ("gate", "eval.npz")

    def test_without_the_option_nothing_is_rewritten(self, project: pytest.Pytester) -> None:
        gated(project, "worse")
        project.runpytest()

        assert [call["name"] for call in calls(project)] == ["gate"]


class TestCompany:
    def test_gates_run_one_at_a_time_under_xdist(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("number", range(6))
            def test_precision(autoprec_gate, number):
                autoprec_gate("slow.onnx", baseline="b.json")
            """
        )
        result = project.runpytest_subprocess("-n", "3")

        result.assert_outcomes(passed=6)
        result.stdout.fnmatch_lines(["created: 3/3 workers", "test_gates*: fine: accuracy; not judged here: latency"])
        times = sorted((call["at"], call["name"]) for call in calls(project) if "at" in call)
        assert [name for _, name in times] == ["begin", "end"] * 6

    def test_a_failure_on_a_worker_shows_the_table(self, project: pytest.Pytester) -> None:
        gated(project, "worse")
        result = project.runpytest_subprocess("-n", "1")

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["accuracy  worse than allowed  98.9 %    97.5 %  -1.4 points  -0.5 points"])

    def test_it_works_without_the_cache_of_pytest(self, project: pytest.Pytester) -> None:
        gated(project, "worse")
        result = project.runpytest("-p", "no:cacheprovider")

        result.assert_outcomes(failed=1)
        assert not (project.path / ".pytest_cache").exists()
        assert not list(project.path.glob("*.lock"))

    def test_it_can_be_switched_off(self, project: pytest.Pytester) -> None:
        gated(project, "fine")
        result = project.runpytest_subprocess("-p", "no:autoprec")

        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*fixture 'autoprec_gate' not found"])

    def test_a_run_without_gates_says_nothing(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_other(): pass")

        pytester.runpytest().stdout.no_fnmatch_line("*autoprec*=")


class TestWeight:
    def test_pytest_finds_it_by_its_entry_point(self) -> None:
        assert {point.value for point in entry_points(group="pytest11", name="autoprec")} == {"autoprec.pytest_plugin"}

    def test_importing_it_loads_nothing_that_pytest_has_not(self) -> None:
        code = (
            "import json, sys, pytest; before = set(sys.modules); import autoprec.pytest_plugin; "
            "print(json.dumps(sorted(set(sys.modules) - before)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)

        assert json.loads(done.stdout) == ["autoprec", "autoprec.pytest_plugin"]

    def test_a_run_without_gates_loads_nothing_more(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import sys

            def test_loaded(request):
                loaded = {name for name in sys.modules if name.startswith("autoprec")}
                assert loaded == {"autoprec", "autoprec.pytest_plugin"}
                assert not {"numpy", "onnx", "onnxruntime", "optuna", "rich", "scipy"} & set(sys.modules)
            """
        )

        pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)

    def test_importing_it_takes_a_small_part_of_what_pytest_takes(self) -> None:
        """The best of some, each in an interpreter of its own, so that no other work on the machine is measured."""
        code = (
            "from time import perf_counter as now; a = now(); import pytest; b = now(); "
            "import autoprec.pytest_plugin; print((now() - b) / (b - a))"
        )
        shares = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600, check=True).stdout)
            for _ in range(5)
        ]

        assert min(shares) < 0.2
