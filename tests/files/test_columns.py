"""Tables fit the width of a terminal."""

from __future__ import annotations

from autoprec.files.columns import fitted, without_spare

HEADER = ["plan", "drop (95 %)", "MACs", "KL"]
ROWS = [["uniform int8", "+0.0012 (+0.0001 .. +0.0022)", "100% int8", "0.0091"]]


def test_a_table_that_fits_is_aligned_and_no_cell_is_broken() -> None:
    lines = fitted(HEADER, ROWS, 80)

    assert lines[0] == "plan          drop (95 %)                   MACs       KL"
    assert len(lines) == 3


def test_a_table_that_is_too_wide_is_broken_at_spaces() -> None:
    lines = fitted(HEADER, ROWS, 40)

    assert max(map(len, lines)) <= 40
    assert "uniform" in "\n".join(lines)
    assert "".join(" ".join(lines).split()).count("0.0091") == 1


def test_a_name_longer_than_a_line_is_broken_anywhere() -> None:
    lines = fitted(["unit", "kind"], [["/model/" + "x" * 90, "conv"]], 40)

    assert max(map(len, lines)) <= 40
    assert sum(line.count("x") for line in lines) == 90


def test_spare_columns_go_first_the_last_one_given_before_the_others() -> None:
    assert without_spare(HEADER, ROWS, ("MACs", "KL"), 61)[0] == HEADER
    assert without_spare(HEADER, ROWS, ("MACs", "KL"), 55)[0] == ["plan", "drop (95 %)", "MACs"]
    assert without_spare(HEADER, ROWS, ("MACs", "KL"), 45)[0] == ["plan", "drop (95 %)"]
