"""Samples: loaded, checked against the model, split into parts.

In go files, folders of images or arrays; out come data sets that yield batches. Read `dataset.py` first, then
`sources.py` (where samples come from) and `splits.py` (which part may decide what).
"""
