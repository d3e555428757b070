"""The page in a browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from autoprec.report.content import report_of
from autoprec.report.page import page
from autoprec.report.read import read_run

pytest.importorskip("jinja2")
RUN = Path(__file__).resolve().parents[1] / "compatibility" / "data" / "runs" / "finished"
BROWSER = shutil.which("chromium")


def test_a_sentence_in_a_table_is_not_squeezed_into_a_narrow_column_on_a_phone() -> None:
    written = page(report_of(read_run(RUN)))
    sentences = re.findall(r"<td( class=\"long\")?>([^<]{41,})</td>", written)

    assert sentences
    assert all(marked for marked, _ in sentences)


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_without_an_error_and_its_script_runs(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(report_of(read_run(RUN))), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]

    done = subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert re.findall(r".*CONSOLE.*", done.stderr) == []
    assert 'title="sort by this column"' in done.stdout
