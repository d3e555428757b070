"""The report of runs of every kind, from the run directory alone."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autoprec.errors import RunDirectoryError
from autoprec.report.content import report_of
from autoprec.report.page import page
from autoprec.report.read import read_run
from autoprec.report.write import ReportFormat, text_of, write_run_report
from autoprec.run.network_description import NetworkDescription, UnitSize
from autoprec.units.records import Edge

pytest.importorskip("jinja2")
RUNS = Path(__file__).resolve().parents[1] / "compatibility" / "data" / "runs"
NASTY = "<img src=x onerror=alert(1)>&\"'$\\sum$|`\x1b[2J"


class Strict(HTMLParser):
    """Notes what a page refers to, and whether its elements are closed in the order in which they were opened."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / "finished", tmp_path / "run"))


def parsed(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    assert parser.open == []
    return parser


@pytest.mark.parametrize("name", ["finished", "modelled", "killed-search", "killed-sensitivity"])
def test_every_run_has_a_page_that_refers_to_nothing_outside(name: str) -> None:
    found = parsed(page(report_of(read_run(RUNS / name)), plots=False))

    assert [target for target in found.references if not target.startswith(("#", "data:"))] == []


def test_the_page_with_plots_refers_to_nothing_outside_and_has_no_name_twice() -> None:
    pytest.importorskip("matplotlib")
    text = page(report_of(read_run(RUNS / "finished")))
    names = re.findall(r' id="([^"]+)"', text)

    assert "http" not in text.replace("http-equiv", "")
    assert all(target.startswith(("#", "data:")) for target in parsed(text).references)
    assert len(names) == len(set(names))
    assert text.count('<figure class="plot">') == 5
    assert "<title>trial 4: model, no budget</title>" in text


def test_the_answer_comes_first_with_its_interval_and_the_uniform_plans() -> None:
    record = report_of(read_run(RUNS / "finished")).to_record()

    assert [card["figure"] for card in record["answer"]] == [
        "uniform int8",
        "1.69 x FP32",
        "+0.13 points",
        "0.33 x FP32",
    ]
    assert "-0.03 to +0.29 on 120 held-out samples" in record["answer"][2]["text"]
    assert "within the bound of 1 percentage point of top1" in record["answer"][2]["text"]
    assert [row[0] for row in record["sections"]["candidates"]["rows"]] == ["uniform fp32", "uniform int8 (answer)"]
    assert len(record["sections"]["plans"]["rows"]) == 6
    assert len(record["sections"]["units"]["rows"]) == 14


def test_a_killed_search_shows_the_best_plan_so_far_and_says_that_it_is_not_confirmed() -> None:
    report = report_of(read_run(RUNS / "killed-search"))

    assert "The run has not ended" in report.state
    assert report.cards[0].title == "Best so far"
    assert report.cards[2].figure == "+0.11 points"


def test_json_is_strict_and_markdown_has_the_answer() -> None:
    report = report_of(read_run(RUNS / "finished"))

    def refuse(name: str) -> float:
        raise AssertionError(name)

    assert json.loads(text_of(report, ReportFormat.JSON), parse_constant=refuse)["kind"] == "autoprec report"
    assert "**Speed: 1.69 x FP32.**" in text_of(report, ReportFormat.MARKDOWN)


def test_every_name_is_escaped(run: Path) -> None:
    text = (run / "study.json").read_text(encoding="utf-8").replace("/stem/conv/Conv", json.dumps(NASTY)[1:-1])
    (run / "study.json").write_text(text, encoding="utf-8")

    found = read_run(run)
    html, markdown = page(report_of(found), plots=False), text_of(report_of(found), ReportFormat.MARKDOWN)

    assert NASTY in found.units
    assert "img" not in parsed(html).tags
    assert "\x1b" not in html + markdown
    assert "<img" not in markdown


def test_the_plan_is_drawn_with_its_boundaries(run: Path) -> None:
    units = tuple(json.loads((run / "study.json").read_text(encoding="utf-8"))["units"])
    sizes = {name: UnitSize(kind="conv", nodes=1, macs=10, weights=10, outputs=(f"{name}_out",)) for name in units}
    edge = Edge(units[0], units[5], "t", 640)
    NetworkDescription(sizes, (edge, Edge(units[0], units[1], "t", 640)), {}).save(run / "network.json")
    studied = json.loads((run / "study.json").read_text(encoding="utf-8"))
    studied["answer"]["plan"][units[5]] = "fp32"
    (run / "study.json").write_text(json.dumps(studied), encoding="utf-8")

    section = next(section for section in report_of(read_run(run)).sections if section.key == "plan")

    assert section.drawing is not None
    assert [(arc.start, arc.end) for arc in section.drawing.arcs] == [(0, 5)]
    assert [part.precision for part in section.drawing.parts] == ["int8", "fp32", "int8"]
    assert f"INT8 to FP32 from {units[0]}, 640 elements" in section.drawing.arcs[0].text


def test_a_damaged_file_is_named_and_the_rest_is_shown(run: Path) -> None:
    (run / "ranges.json").write_text("{", encoding="utf-8")

    record = report_of(read_run(run)).to_record()

    assert "ranges.json" in record["sections"]["problems"]["notes"][0]
    assert "plans" in record["sections"]


def test_a_report_that_the_user_put_there_is_not_written_over(run: Path) -> None:
    (run / "report.html").write_text("mine", encoding="utf-8")

    with pytest.raises(RunDirectoryError, match="did not write"):
        write_run_report(run, plots=False)
    assert (run / "report.html").read_text(encoding="utf-8") == "mine"


def test_a_report_is_written_again_over_an_earlier_one(run: Path) -> None:
    assert write_run_report(run, plots=False) == write_run_report(run, plots=False) == run / "report.html"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="autoprec tune"):
        read_run(tmp_path)
