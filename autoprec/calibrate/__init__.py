"""Calibration: data in, ranges out.

In go a model and samples; out comes a range for every value that may be quantised. Read `choose.py` first: it streams
the data once (`observe.py`), compares the calibrators, and looks at single values again (`refine.py`).
"""
