"""The stages of a tune, a module for each.

In go a `Run` and what earlier stages found; each stage returns what it found and leaves it as one file of the run
directory, which the next run takes over where it still holds. Read `autoprec.run.tune` first, which says in which
order they run; `halves.py` is the first stage.
"""
