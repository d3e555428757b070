"""One tune, from the options to the answer.

In go settings; out come the files of a run directory and a `TuneResult`. Read `tune.py` first: it is the order of the
stages. `task.py` loads and checks everything, `context.py` holds what all stages share, `stages/` has a module for each
stage, and `answer/` makes the answer. `directory.py` says which file is whose.
"""
