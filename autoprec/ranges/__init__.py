"""Ranges of tensors: statistics of their values, where to clip them, and the scales that follow.

    values -> Histogram -> calibrate -> Range -> QuantParams -> integer codes
    weights -> weight_scales -> quantize_weight -> stored INT8 or FP8 codes

Read `histogram.py` first: it counts values in one pass with bounded memory. `calibrators.py` chooses where to clip
(with `entropy.py` and `squared_error.py`), `affine.py` turns a range into a scale and a zero point with the exact
arithmetic of ONNX, `weights.py` does the same for constants, and `table.py` is the file of ranges.
"""
