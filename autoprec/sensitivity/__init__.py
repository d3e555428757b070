"""What each unit loses in each precision.

In go a model, ranges and samples; out comes a table of losses, unit by unit and precision by precision. Read `table.py`
first, then `measure.py`, which computes only what lies behind a unit (`splice.py`).
"""
