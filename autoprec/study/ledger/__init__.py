"""The Optuna study of a run: who measures which plan, and what was measured.

In go plans and measurements; out come trials that several processes share. Read `ask_tell.py` first, then `status.py`
(the life of a trial) and `claims.py` (so that no plan is measured twice).
"""
