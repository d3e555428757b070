"""The Optuna study of a run: who measures which plan, and what came of it.

In go plans and measurements; out come trials that several processes share. Optuna is
used here and in the sampler only. Read `ask_tell.py` first, then `claims.py`.
"""
