"""One tune, from the options to the answer.

In go settings; out come the files of a run directory and a `TuneResult`. Read `tune.py` first: it is the order of the
stages. `task.py` loads and checks everything, `stages/` holds a function for each stage, `answer/` makes the answer.
"""
