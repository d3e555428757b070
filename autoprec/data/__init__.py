"""Samples: loaded, checked against the model, and split into parts.

Files, folders of images, functions or arrays go in; data sets that yield batches come out. Read `dataset.py` first,
then `sources.py` (where samples come from) and `splits.py` (which part of the samples may decide what).
"""
