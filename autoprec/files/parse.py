"""JSON text from files that may be damaged or hostile: nesting and numbers are bounded before it is used."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

LARGEST_BYTES = 1 << 28
"""The largest file that is read: no record of autoprec comes near it."""
_DEEPEST = 64
_DIGITS = 19
"""The most digits of an integer: one of more does not fit into 64 bits, and could take minutes to be read."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    """Return the text of a regular file that is not too large, in UTF-8.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not a regular file, it is too large, or it is not in UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ValueError(f"it has {size:,} bytes, and at most {LARGEST_BYTES:,} are read")
    return path.read_bytes().decode("utf-8")


def parse_json(text: str, *, unique: bool = False) -> Any:
    """Return what a JSON text says.

    Args:
        text: the text.
        unique: whether a field that occurs twice in an object is an error.

    Raises:
        ValueError: it is no JSON; it is nested too deeply; or it holds a number that is not finite, an integer of more
            than 64 bits, or half of a surrogate pair, which no file can hold.
    """
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refuse,
            object_pairs_hook=_unique if unique else None,
        )
    except (RecursionError, MemoryError) as error:
        raise ValueError(_TOO_DEEP) from error
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [item for items in inner for item in items]
        if not level:
            break
    else:
        raise ValueError(_TOO_DEEP)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


_TOO_DEEP = f"it is nested more than {_DEEPEST} levels deep"


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _DIGITS:
        raise ValueError(f"an integer has {len(text.lstrip('-'))} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is larger than any number that can be computed with")
    return number


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a field occurs twice")
    return record
