"""The folder of what one run learns that later runs of any model can use; it may be deleted at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def user_cache(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own cache folder of this name, made where it is missing; None where it cannot be written.

    It lies in `$XDG_CACHE_HOME/autoprec`, or in `~/.cache/autoprec` (XDG Base Directory Specification).
    """
    base = environment.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "autoprec" / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home directory, or a home that is read-only
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
