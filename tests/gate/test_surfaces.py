"""What a gate's report looks like in each place where people or machines read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from autoprec.files.json import as_json
from autoprec.gate.markdown import escape
from autoprec.gate.surfaces import headline, table, to_annotations, to_junit, to_markdown, to_record, to_text
from autoprec.gate.text import SHOWN_DETAILS, WORDS, plain
from autoprec.gate.verdict import Check, GateReport, Status

ACCURACY = Check(
    name="accuracy",
    status=Status.WORSE,
    baseline="98.9 %",
    now="97.5 %",
    change="-1.4 points (-2.3 to -0.6)",
    allowed="-0.5 points",
    sentence="top1 fell for certain, and by more than allowed; retune the model.",
)
LATENCY = Check(
    name="latency",
    status=Status.SKIPPED,
    baseline="7.3 ms",
    now="-",
    change="-",
    allowed="+5 %",
    sentence="the baseline was measured on another CPU.",
)
SIZE = Check(
    name="size",
    status=Status.FINE,
    baseline="101 kB",
    now="101 kB",
    change="+0.0 %",
    allowed="+1 %",
    sentence="as large as before.",
)
RANGES = Check(
    name="ranges",
    status=Status.CANNOT_JUDGE,
    baseline="14 tensors",
    now="-",
    change="-",
    allowed="-",
    sentence="no calibration data; give --calib.",
    details=("conv1: 1.3 x", "conv2: 1.1 x"),
)
PRECISION = Check(
    name="precision",
    status=Status.NOT_HONOURED,
    baseline="14 of 14",
    now="13 of 14",
    change="1 unit",
    allowed="0",
    sentence="conv1 ran in FP32.",
)


def report(*checks: Check, changes: tuple[str, ...] = ()) -> GateReport:
    return GateReport(
        model="models/digits.onnx", baseline="models/baseline.json", checks=checks, changes=changes, seconds=2.345
    )


ALL = report(ACCURACY, LATENCY, SIZE, RANGES, PRECISION, changes=("driver: 550 -> 580",))
NOTHING = report()
SKIPPED = report(LATENCY)

# What any tool may have put into a name: controls, separators, surrogates, and the marks of each format.
TEXTS = st.text(st.characters() | st.sampled_from("\n\r\t\x1b\x00|\\`*_<>&[]#-+.)1%:,~$]]>\u202e\ud800\uffff"))
CHECKS = st.builds(
    Check,
    name=TEXTS,
    status=st.sampled_from(Status),
    baseline=TEXTS,
    now=TEXTS,
    change=TEXTS,
    allowed=TEXTS,
    sentence=TEXTS,
    details=st.lists(TEXTS, max_size=3).map(tuple),
)
REPORTS = st.builds(
    GateReport,
    model=TEXTS,
    baseline=TEXTS,
    checks=st.lists(CHECKS, max_size=4).map(tuple),
    changes=st.lists(TEXTS, max_size=2).map(tuple),
)


class TestText:
    def test_the_headline_names_all_checks_gravest_first(self) -> None:
        assert headline(ALL) == (
            "not run as planned: precision (1 unit, allowed 0); "
            "worse than allowed: accuracy (-1.4 points (-2.3 to -0.6), allowed -0.5 points); "
            "cannot judge: ranges; fine: size; not judged here: latency"
        )

    def test_a_report_that_judged_nothing_says_so(self) -> None:
        assert headline(NOTHING) == "cannot judge: nothing was checked"
        assert headline(SKIPPED) == "cannot judge: every check was skipped; not judged here: latency"

    def test_every_status_has_words(self) -> None:
        assert set(WORDS) == set(Status)

    @given(REPORTS)
    def test_the_headline_begins_with_the_verdict(self, any_report: GateReport) -> None:
        assert headline(any_report).startswith(f"{WORDS[any_report.status]}: ")

    def test_the_whole_text(self) -> None:
        assert to_text(report(ACCURACY, LATENCY, SIZE, changes=("driver: 550 -> 580",))).splitlines() == [
            headline(report(ACCURACY, LATENCY, SIZE)),
            "models/digits.onnx against models/baseline.json, 2.3 s",
            "",
            "check     verdict             baseline  now     change               allowed",
            "--------  ------------------  --------  ------  -------------------  -----------",
            "accuracy  worse than allowed  98.9 %    97.5 %  -1.4 points (-2.3    -0.5 points",
            "                                                to -0.6)",
            "latency   not judged here     7.3 ms    -       -                    +5 %",
            "size      fine                101 kB    101 kB  +0.0 %               +1 %",
            "",
            "accuracy: top1 fell for certain, and by more than allowed; retune the model.",
            "",
            "latency: the baseline was measured on another CPU.",
            "",
            "changed since the baseline:",
            "  - driver: 550 -> 580",
        ]

    def test_long_details_are_cut_and_counted(self) -> None:
        drifted = tuple(f"tensor{number}" for number in range(SHOWN_DETAILS + 7))
        text = to_text(
            report(
                Check(
                    name="ranges",
                    status=Status.WORSE,
                    baseline="",
                    now="",
                    change="",
                    allowed="",
                    sentence="27 tensors drifted.",
                    details=drifted,
                )
            )
        )

        assert f"  - tensor{SHOWN_DETAILS - 1}\n  - and 7 more, all of them in the JSON report" in text
        assert f"tensor{SHOWN_DETAILS}" not in text

    @given(REPORTS)
    def test_nothing_steers_the_terminal(self, any_report: GateReport) -> None:
        assert all(line.isprintable() for line in to_text(any_report).split("\n"))
        assert all(len(row) == len(table(any_report)[0]) for row in table(any_report)[1])

    def test_what_cannot_be_printed_is_written_out(self) -> None:
        assert plain("a\x1b[31m\r\n b\tc\u202e\ud800 é") == r"a\x1b[31m b c\u202e\ud800 é"


class TestMarkdown:
    def test_the_whole_document(self) -> None:
        assert to_markdown(report(SIZE, RANGES, changes=("driver: 550 -> 580",))) == (
            "### Precision gate: cannot judge\n"
            "\n"
            "cannot judge: ranges; fine: size.\n"
            "\n"
            "| check | verdict | baseline | now | change | allowed |\n"
            "| --- | --- | --- | --- | --- | --- |\n"
            "| size | fine | 101 kB | 101 kB | +0.0 % | +1 % |\n"
            "| ranges | cannot judge | 14 tensors | - | - | - |\n"
            "\n"
            "- **ranges**: no calibration data; give --calib.\n"
            "  - conv1: 1.3 x\n"
            "  - conv2: 1.1 x\n"
            "- Changed since the baseline:\n"
            "  - driver: 550 -&gt; 580\n"
            "\n"
            "Judged models/digits.onnx against models/baseline.json, 2.3 s.\n"
        )

    def test_a_report_without_checks_has_no_table(self) -> None:
        assert "|" not in to_markdown(NOTHING)
        assert "cannot judge: nothing was checked." in to_markdown(NOTHING)

    @given(REPORTS)
    def test_a_reader_shows_the_very_cells(self, any_report: GateReport) -> None:
        header, rows = table(any_report)
        shown = list(cells(to_markdown(any_report)))

        assert shown == ([list(header), *map(list, rows)] if rows else [])

    @given(TEXTS)
    def test_a_reader_shows_the_very_details(self, detail: str) -> None:
        """Whatever it begins with, it becomes neither a heading nor a list of its own."""
        tokens = (
            MarkdownIt("commonmark")
            .enable("table")
            .parse(
                to_markdown(
                    report(
                        Check(
                            name="ranges",
                            status=Status.WORSE,
                            baseline="",
                            now="",
                            change="",
                            allowed="",
                            sentence="drifted.",
                            details=(detail,),
                        )
                    )
                )
            )
        )
        kinds = [token.type for token in tokens]

        assert kinds.count("heading_open") == 1
        assert kinds.count("bullet_list_open") == (2 if plain(detail) else 1)
        assert not {"ordered_list_open", "blockquote_open", "hr", "html_block", "fence", "code_block"} & set(kinds)
        shown = [token for token in tokens if token.type == "inline" and token.level == 5]
        assert [shown_text(token.children) for token in shown] == ([plain(detail)] if plain(detail) else [])

    def test_escapes_are_few(self) -> None:
        """The source of a summary is read too."""
        assert escape("fell by 1.4 % (0.6 to 2.3) in conv/1:0 - retune!") == (
            "fell by 1.4 % (0.6 to 2.3) in conv/1:0 - retune!"
        )


class TestJUnit:
    def test_each_check_is_a_test_case_with_its_outcome(self) -> None:
        suite = ElementTree.fromstring(to_junit(ALL)).find("testsuite")
        assert suite is not None
        outcomes = {case.get("name"): case[0].tag for case in suite.iter("testcase")}

        assert outcomes == {
            "accuracy of models/digits.onnx": "failure",
            "latency of models/digits.onnx": "skipped",
            "size of models/digits.onnx": "system-out",
            "ranges of models/digits.onnx": "error",
            "precision of models/digits.onnx": "failure",
        }
        counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
        assert counts == {"tests": "5", "failures": "2", "errors": "1", "skipped": "1", "time": "2.345"}

    def test_a_failure_carries_the_sentence_and_the_figures(self) -> None:
        failure = ElementTree.fromstring(to_junit(ALL)).find(".//failure")
        assert failure is not None

        assert failure.get("message") == f"worse than allowed: {ACCURACY.sentence}"
        assert failure.get("type") == "worse"
        assert failure.text == (
            f"{ACCURACY.sentence}\nbaseline: 98.9 %\nnow: 97.5 %\nchange: -1.4 points (-2.3 to -0.6)\n"
            f"allowed: -0.5 points"
        )

    def test_what_changed_is_a_property(self) -> None:
        found = [(p.get("name"), p.get("value")) for p in ElementTree.fromstring(to_junit(ALL)).iter("property")]

        assert found == [
            ("model", "models/digits.onnx"),
            ("baseline", "models/baseline.json"),
            ("status", "not honoured"),
            ("changed", "driver: 550 -> 580"),
        ]

    @pytest.mark.parametrize("nothing", [NOTHING, SKIPPED])
    def test_a_report_that_judged_nothing_is_red(self, nothing: GateReport) -> None:
        """A suite of no tests, or of skipped ones, is green in every CI system."""
        error = ElementTree.fromstring(to_junit(nothing)).find(
            ".//testcase[@name='verdict of models/digits.onnx']/error"
        )
        assert error is not None

        assert headline(nothing) in error.get("message", "")

    @given(REPORTS)
    def test_any_name_gives_well_formed_xml_that_is_red_unless_fine(self, any_report: GateReport) -> None:
        document = to_junit(any_report)
        suite = ElementTree.fromstring(document.encode()).find("testsuite")
        assert suite is not None
        cases = list(suite.iter("testcase"))
        red = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]

        assert bool(red) is (any_report.status is not Status.FINE)
        assert int(suite.get("tests", "")) == len(cases)
        assert int(suite.get("failures", "")) + int(suite.get("errors", "")) == len(red)


class TestAnnotations:
    def test_each_check_that_is_not_fine_has_a_line(self) -> None:
        file = "file=models/baseline.json"

        assert to_annotations(ALL) == [
            f"::error title=autoprec accuracy%3A worse than allowed,{file}::{ACCURACY.sentence}",
            f"::notice title=autoprec latency%3A not judged here,{file}::{LATENCY.sentence}",
            f"::warning title=autoprec ranges%3A cannot judge,{file}::{RANGES.sentence}%0Aconv1: 1.3 x%0Aconv2: 1.1 x",
            f"::error title=autoprec precision%3A not run as planned,{file}::conv1 ran in FP32.",
            f"::notice title=autoprec changed since the baseline,{file}::driver: 550 -> 580",
        ]

    def test_a_fine_report_needs_none(self) -> None:
        assert to_annotations(report(SIZE)) == []

    @pytest.mark.parametrize("nothing", [NOTHING, SKIPPED])
    def test_a_report_that_judged_nothing_warns(self, nothing: GateReport) -> None:
        assert to_annotations(nothing)[0] == (
            f"::warning title=autoprec cannot judge,file=models/baseline.json::{headline(nothing)}"
        )

    def test_a_file_outside_the_repository_is_not_named(self) -> None:
        lines = to_annotations(GateReport(model="m.onnx", baseline="/elsewhere/baseline.json", checks=(ACCURACY,)))

        assert [line.split("::")[1] for line in lines] == ["error title=autoprec accuracy%3A worse than allowed"]

    @given(REPORTS)
    def test_no_name_can_speak_to_the_runner(self, any_report: GateReport) -> None:
        """The runner reads a command from the beginning of a line; its properties end at the next two colons."""
        for line in to_annotations(any_report):
            command = re.fullmatch(r"::(error|warning|notice) ([^\r\n]*?)::([^\r\n]*)", line)
            assert command is not None
            names = [pair.partition("=")[0] for pair in command[2].split(",")]
            assert names in (["title"], ["title", "file"])
            assert re.sub("%(25|0A|0D|3A|2C)", "", line).count("%") == 0


class TestRecord:
    def test_it_carries_everything_unescaped(self) -> None:
        record = json.loads(as_json(to_record(ALL)))

        assert {key: record[key] for key in ("schema", "status", "exit_code", "model", "baseline", "seconds")} == {
            "schema": 1,
            "status": "not honoured",
            "exit_code": 5,
            "model": "models/digits.onnx",
            "baseline": "models/baseline.json",
            "seconds": 2.345,
        }
        assert record["headline"] == headline(ALL)
        assert record["changes"] == ["driver: 550 -> 580"]
        assert record["checks"][3] == {
            "name": "ranges",
            "status": "cannot judge",
            "baseline": "14 tensors",
            "now": "-",
            "change": "-",
            "allowed": "-",
            "sentence": RANGES.sentence,
            "details": ["conv1: 1.3 x", "conv2: 1.1 x"],
        }

    @given(REPORTS)
    def test_it_rebuilds_the_report(self, any_report: GateReport) -> None:
        record = json.loads(as_json(to_record(any_report)))
        checks = tuple(
            Check(**{**check, "status": Status(check["status"]), "details": tuple(check["details"])})
            for check in record["checks"]
        )

        assert (
            GateReport(
                model=record["model"], baseline=record["baseline"], checks=checks, changes=tuple(record["changes"])
            )
            == any_report
        )


def cells(document: str) -> Iterator[list[str]]:
    """The rows of the tables of a Markdown document, as an independent reader shows them."""
    row: list[str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(document):
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            assert row is not None
            yield row
            row = None
        elif token.type == "inline" and row is not None:
            row.append(shown_text(token.children))


def shown_text(tokens: object) -> str:
    """The text of inline tokens; any other kind, such as an emphasis, would mean that a name was not escaped."""
    assert isinstance(tokens, list)
    tokens = [token for token in tokens if (token.type, token.content) != ("html_inline", "<!-- -->")]
    assert {token.type for token in tokens} <= {"text", "text_special"}
    return "".join(token.content for token in tokens)
