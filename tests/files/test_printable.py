"""Names from files of other people do not steer a terminal."""

from __future__ import annotations

from autoprec.files.printable import printable


def test_escapes_are_written_out_and_line_breaks_stay() -> None:
    assert printable("conv\x1b[2J\u202e é\nnext") == "conv\\x1b[2J\\u202e é\nnext"
