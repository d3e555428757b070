"""The measured plans of a run afterwards: the trade-off between drop, latency and size.

In goes a run directory; out come its plans that no other plan beats, and any of them as a model. Read `run_front.py`
first; `loaded.py`, `choose.py` and `build.py` do its work, `pareto.py` is the mathematics, and `predicted.py` is about
plans that were not measured.
"""
