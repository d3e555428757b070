"""Where the error is: what each unit of a network computes, in FP32, by its plan in exact arithmetic, and in a runtime.

A lowered plan, a runtime and samples go in; out comes for each unit how far the three are apart, and what of it the
unit adds by itself. Read `record.py` first; `measure.py` measures, `seen.py` makes values visible, and `parts.py` cuts
out a unit by itself.
"""
