"""The user's cache is where the XDG specification puts it, and none where it cannot be written."""

from __future__ import annotations

from pathlib import Path

from autoprec.files.user_cache import user_cache


def test_it_lies_where_the_environment_says(tmp_path: Path) -> None:
    assert user_cache("timings", {"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "autoprec" / "timings"
    assert (tmp_path / "autoprec" / "timings").is_dir()


def test_a_place_that_cannot_be_made_is_none(tmp_path: Path) -> None:
    (tmp_path / "autoprec").write_text("a file of the user's")

    assert user_cache("timings", {"XDG_CACHE_HOME": str(tmp_path)}) is None
    assert (tmp_path / "autoprec").read_text() == "a file of the user's"
