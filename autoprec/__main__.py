"""The command line started as `python -m autoprec`."""

from __future__ import annotations

from autoprec.cli import main

if __name__ == "__main__":
    main()
