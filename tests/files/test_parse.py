"""JSON that is damaged or hostile is refused in words, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.errors import RunDirectoryError
from autoprec.files.json import read_json
from autoprec.files.parse import parse_json, read_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested more than 64 levels"),
        ("[" * 200 + "]" * 200, "nested more than 64 levels"),
        ('{"a":' * 30_000, "nested more than 64 levels"),
        ("1" + "0" * 400, "an integer has 401 digits"),
        ("[-" + "9" * 10_000_000 + "]", "an integer has 10000000 digits"),
        ("1e999", "larger than any number"),
        ("NaN", "NaN is not a number in JSON"),
        (r'["\ud800"]', "surrogates not allowed"),
        ('{"a": 1', "Expecting"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse_json(r'{"a": [1, -2.5, null, "\ud83d\ude00"], "b": 9223372036854775807}') == {
        "a": [1, -2.5, None, "\U0001f600"],
        "b": 2**63 - 1,
    }


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "plan.json").symlink_to("/dev/zero")

    with pytest.raises(ValueError, match="it is not a regular file"):
        read_text(tmp_path / "plan.json")


def test_a_record_that_nests_too_deep_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "ranges.json").write_text("[" * 100_000)

    with pytest.raises(RunDirectoryError, match=r"the range table .*ranges.json is not JSON \(it is nested"):
        read_json(tmp_path / "ranges.json", "range table", RunDirectoryError, 1)
